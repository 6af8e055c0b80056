"""One network that generates semantic IDs and scores items: the best recommender here.

    python -m genrec_jax.main --config=configs/hybrid.py
    python -m genrec_jax.main --config=configs/hybrid.py:beauty --config.data.dir=FOLDER

docs/results.md has its figures, docs/recipes.md what was tried. Without --config.tokenizer=DIR the
run makes a tokenizer of its own first (configs/residual_kmeans.py, under `tokenizer_config`).
"""

from ml_collections import ConfigDict

from configs import common, residual_kmeans


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "hybrid"
    config.name = "hybrid"
    config.seed = 0
    config.cache_dir = ""  # prepared data and embeddings; default WORKDIR/cache
    config.data = common.data(dataset)
    config.embedder = common.embedder(smoke)  # what the items' vectors are made of
    config.tokenizer = ""  # a finished tokenizer run; empty to make one from the following
    config.tokenizer_config = residual_kmeans.get_config(arg)
    config.tokenizer_config.seed = config.get_ref("seed")
    config.tokenizer_config.data = config.data
    config.tokenizer_config.embedder = config.embedder
    config.tokenizer_config.cache_dir = config.get_ref("cache_dir")

    # Model.
    config.max_history = 50
    config.dtype = "auto"  # bfloat16 on accelerators, float32 on CPU
    config.model = ConfigDict()
    config.model.encoder = ConfigDict()
    config.model.encoder.dim = 192
    config.model.encoder.num_heads = 3
    config.model.encoder.hidden_dim = 512
    config.model.encoder.num_layers = 2
    config.model.encoder.dropout = 0.5
    config.model.decoder = ConfigDict()
    config.model.decoder.dim = 256
    config.model.decoder.num_heads = 4
    config.model.decoder.hidden_dim = 1024
    config.model.decoder.num_layers = 2
    config.model.decoder.dropout = 0.2
    config.model.activation = "gelu"
    config.model.item_dropout = 0.1

    # Training: a sample is a row of whole histories, all of whose items but the first are targets.
    config.row_length = 64
    config.interactions_on = "devices"  # or "host", which gathers each batch
    config.code_weight = 0.5  # of the codes' cross-entropies beside that of the next item
    config.backward_weight = 1.0  # of the item before's cross-entropy, likewise
    config.label_smoothing = 0.1  # of both items
    config.num_steps = 8_000
    config.batch_size = 48  # rows
    config.accumulation = 1
    config.steps_per_call = 100
    config.eval_every = 1_000
    config.ema_decay = 0.0  # of the averaged parameters that are evaluated and kept; 0 for none
    config.patience = 0  # evaluations without a better one; 0 for no early end
    config.skip_nonfinite = 0  # updates in a row that may be left out if they are not finite
    config.checkpoint = common.checkpoint()
    config.mesh = common.mesh()
    config.plan = common.plan()
    config.profile = common.profile()
    config.trackers = "tensorboard"  # or several of it, "wandb" and "mlflow", with commas between
    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or "lamb"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 200
    config.optimizer.final_fraction = 0.01
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 1.0

    # Evaluation.
    config.eval = common.evaluation()
    config.eval.score_weight = 0.7  # of the items' scores beside the probabilities of their codes
    config.num_examples = 3

    if dataset == "synthetic" or smoke:
        config.max_history = 20
        for stack in (config.model.encoder, config.model.decoder):
            stack.update(dim=64, num_heads=2, hidden_dim=128)
        config.model.encoder.dropout = 0.3
        config.model.decoder.dropout = 0.1
        config.num_steps = 1_000
        config.steps_per_call = 50
        config.batch_size = 16
        config.eval_every = 250
        config.eval.num_beams = 20
        config.eval.batch_size = 256
    if smoke:
        config.num_steps = 200
        config.optimizer.warmup_steps = 50
        config.eval_every = 100
        config.eval.max_users = 1_000
    return config
