"""TIGER: generative retrieval with semantic IDs (https://arxiv.org/abs/2305.05065).

    python -m genrec_jax.main --config=configs/retrieval.py
    python -m genrec_jax.main --config=configs/retrieval.py:beauty --config.data.dir=FOLDER

Without --config.tokenizer=DIR the run trains a tokenizer of its own first (configs/rqvae.py,
under `tokenizer_config`).
"""

from ml_collections import ConfigDict

from configs import common, rqvae


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "retrieval"
    config.name = "retrieval"
    config.seed = 0
    config.cache_dir = ""  # prepared data and embeddings; default WORKDIR/cache
    config.data = common.data(dataset)
    config.tokenizer = ""  # a finished tokenizer run; empty to make one from the following
    config.tokenizer_config = rqvae.get_config(arg)
    config.tokenizer_config.seed = config.get_ref("seed")
    config.tokenizer_config.data = config.data
    config.tokenizer_config.cache_dir = config.get_ref("cache_dir")

    # Model.
    config.max_history = 20
    config.tokens_from_codebooks = False
    config.dtype = "auto"  # bfloat16 on accelerators, float32 on CPU
    config.model = ConfigDict()
    config.model.embedding_dim = 128
    config.model.dim = 128
    config.model.num_heads = 6
    config.model.head_dim = 64
    config.model.hidden_dim = 1024
    config.model.num_encoder_layers = 4
    config.model.num_decoder_layers = 4
    config.model.activation = "relu"
    config.model.positions = "relative"  # or "learned"
    config.model.dropout = 0.2
    config.model.use_separator = False
    config.model.num_user_bins = 0

    # Training. Samples are every prefix of every training history ("prefixes"), or one random part
    # of each history an epoch ("subsequences").
    config.samples = "prefixes"
    config.packed = True  # short histories share rows, so that hardly any places are empty
    config.interactions_on = "devices"  # or "host", which gathers each batch
    config.num_steps = 45_000
    config.batch_size = 256
    config.accumulation = 1
    config.steps_per_call = 100
    config.eval_every = 2_500
    config.ema_decay = 0.0  # of the averaged parameters that are evaluated and kept; 0 for none
    config.patience = 10  # evaluations without a better one; 0 for no early end
    config.skip_nonfinite = 0  # updates in a row that may be left out if they are not finite
    config.checkpoint = common.checkpoint()
    config.mesh = common.mesh()
    config.plan = common.plan()
    config.profile = common.profile()
    config.trackers = "tensorboard"  # or several of it, "wandb" and "mlflow", with commas between
    config.tokenizer_config.trackers = config.get_ref("trackers")
    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or "lamb"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 2_000
    config.optimizer.final_fraction = 0.01
    config.optimizer.weight_decay = 0.035
    config.optimizer.clip_norm = 1.0

    # Evaluation.
    config.eval = common.evaluation()
    config.num_examples = 3

    if dataset == "synthetic" or smoke:
        config.max_history = 6
        config.model.embedding_dim = 64
        config.model.dim = 64
        config.model.num_heads = 2
        config.model.head_dim = 32
        config.model.hidden_dim = 256
        config.model.num_encoder_layers = 2
        config.model.num_decoder_layers = 2
        config.model.dropout = 0.0  # half of a step on CPU
        config.optimizer.learning_rate = 3e-3
        config.optimizer.warmup_steps = 100
        config.num_steps = 2_000
        config.steps_per_call = 50
        config.eval_every = 500
        config.eval.num_beams = 20
        config.eval.batch_size = 256
    if smoke:
        config.num_steps = 200
        config.eval_every = 100
        config.eval.max_users = 1_000
    return config
