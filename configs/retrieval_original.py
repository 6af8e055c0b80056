"""The decoder shape and training of RQ-VAE-Recommender before it moved to T5 layers.

    python -m genrec_jax.main --config=configs/retrieval_original.py:beauty --config.data.dir=FOLDER

Tokens of width 128 in a model of width 512 with 8 heads, 8 layers (4 to encode, 4 to decode),
dropout .3, learned places, one random part of each history an epoch, and an inverse square root
schedule, and an extra code that tells colliding items apart. All else is that of
configs/retrieval.py.
"""

from ml_collections import ConfigDict

from configs import common, retrieval


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]; the synthetic shop and smoke have a small model of this kind."""
    dataset, smoke = common.parse_arg(arg)
    config = retrieval.get_config(arg)
    config.name = "retrieval_original"
    config.model.positions = "learned"
    config.model.dropout = 0.3
    config.samples = "subsequences"
    config.packed = False
    config.tokenizer_config.collisions = "extra_code"
    config.optimizer.schedule = "inverse_sqrt"
    if dataset != "synthetic" and not smoke:
        config.model.embedding_dim = 128
        config.model.dim = 512
        config.model.num_heads = 8
        config.model.head_dim = 64
        config.model.hidden_dim = 1024
        config.model.num_encoder_layers = 4
        config.model.num_decoder_layers = 4
        config.optimizer.learning_rate = 3e-4
        config.optimizer.warmup_steps = 2_000
    return config
