"""RQ-VAE: item embeddings to semantic IDs.

Lee et al., 2022 (https://arxiv.org/abs/2203.01941), as in TIGER, Rajput et al., 2023
(https://arxiv.org/abs/2305.05065); shapes of RQ-VAE-Recommender.

    python -m genrec_jax.main --config=configs/rqvae.py
    python -m genrec_jax.main --config=configs/rqvae.py:beauty --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = common.tokenizer("rqvae", dataset, smoke)

    # Model.
    config.model = common.levels(dataset)
    config.model.hidden_dims = (512, 256, 128)
    config.model.code_dim = 32
    config.model.commitment_weight = 0.25
    config.model.residual_gradient = "estimator"  # or "pass"
    config.model.estimator = "straight_through"  # or "rotation", "gumbel"
    config.model.distance = "euclidean"  # or "cosine"
    config.model.temperature = 0.2  # of the estimator "gumbel", at the first step
    config.model.final_temperature = 0.2  # at the last one; the same factor a step between them
    config.model.simvq = False  # codewords are a table times a trained matrix of the level
    config.model.normalize = False  # latents and the first level's codewords have length 1
    config.model.num_categorical = 0  # the last so many columns of the embeddings are 0 or 1
    config.model.codebook_ema = 0.0  # decay a step of codebooks as moving averages; 0: gradients
    # Sinkhorn: all codes of the last level, or of all, get equally many items of a batch in
    # training, or of the catalogue in its assignment: "none", "last" or "all".
    config.model.train_balance = "none"
    config.model.assign_balance = "none"

    # Codebooks start as k-means of the latents of so many random items; 0 for a random start.
    config.kmeans_items = 20_000
    config.kmeans_iterations = 100

    # Codes that no item chooses start anew, every so many steps; 0 for never.
    config.reset_every = 500

    # Training.
    config.num_steps = 10_000
    config.batch_size = 640
    config.accumulation = 1
    config.steps_per_call = 250
    config.eval_every = 2_000
    config.skip_nonfinite = 0  # updates in a row that may be left out if they are not finite
    config.checkpoint = common.checkpoint()
    config.mesh = common.mesh()
    config.plan = common.plan()
    config.profile = common.profile()
    config.trackers = "tensorboard"  # or several of it, "wandb" and "mlflow", with commas between
    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or "lamb"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.optimizer.final_fraction = 0.0
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = 0.0

    if dataset == "synthetic":
        config.num_steps = 1_000
        config.eval_every = 500
        config.steps_per_call = 100
    if smoke:
        config.num_steps = 400
        config.eval_every = 200
        config.steps_per_call = 50
    return config
