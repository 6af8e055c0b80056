"""SASRec with the cross-entropy over the whole catalogue: the control of configs/retrieval.py.

Kang and McAuley, 2018 (https://arxiv.org/abs/1808.09781). It knows items by number alone: no texts,
no tokenizer.

    python -m genrec_jax.main --config=configs/sasrec.py
    python -m genrec_jax.main --config=configs/sasrec.py:beauty --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "sasrec"
    config.name = "sasrec"
    config.seed = 0
    config.cache_dir = ""  # prepared data; default WORKDIR/cache
    config.data = common.data(dataset)

    # Model.
    config.max_history = 50
    config.dtype = "auto"  # bfloat16 on accelerators, float32 on CPU
    config.model = ConfigDict()
    config.model.dim = 128
    config.model.num_heads = 2
    config.model.hidden_dim = 256
    config.model.num_layers = 2
    config.model.activation = "gelu"
    config.model.dropout = 0.5

    # Training: a sample is a row of whole histories, all of whose items but the first are targets.
    config.row_length = 64
    config.interactions_on = "devices"  # or "host", which gathers each batch
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
    config.num_examples = 3

    if dataset == "synthetic" or smoke:
        config.max_history = 20
        config.num_steps = 1_000
        config.batch_size = 32
        config.optimizer.learning_rate = 5e-3
        config.steps_per_call = 50
        config.eval_every = 250
    if smoke:
        config.num_steps = 200
        config.optimizer.warmup_steps = 50
        config.eval_every = 100
        config.eval.max_users = 1_000
    return config
