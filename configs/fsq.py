"""Finite scalar quantisation: item embeddings to semantic IDs by rounding.

Mentzer et al., 2023 (https://arxiv.org/abs/2309.15505): an autoencoder whose latent's dimensions
are rounded to a few values each; a level codes some of the dimensions. Nothing can collapse, as
there are no codebooks to learn.

    python -m genrec_jax.main --config=configs/fsq.py
    python -m genrec_jax.main --config=configs/fsq.py:beauty --config.data.dir=FOLDER
"""

from ml_collections import ConfigDict

from configs import common, rqvae


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = common.tokenizer("fsq", dataset, smoke)

    # Model. A level has as many codes as the product of its dimensions' values.
    config.model = ConfigDict()
    config.model.hidden_dims = (512, 256, 128)
    shape = (4, 4, 4) if dataset == "synthetic" else (8, 8, 4)
    config.model.level_shapes = (shape,) * 3

    # Training, as of an RQ-VAE.
    training = rqvae.get_config(arg)
    names = "num_steps batch_size accumulation steps_per_call eval_every skip_nonfinite"
    names += " checkpoint mesh plan profile trackers optimizer"
    for name in names.split():
        config[name] = training[name]
    return config
