"""Where the time of quantising goes: traces, compiled programs and rooflines, by named scope.

    python -m genrec_jax.main --config=configs/profile_quantize.py
    python -m genrec_jax.main --config=configs/profile_quantize.py:smoke

All data is random, all widths are those of configs/rqvae.py:beauty. docs/profiling.md reads a run.
Like configs/recommend.py it computes anew at every command.
"""

from ml_collections import ConfigDict

from configs import rqvae
from genrec_jax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is empty or smoke."""
    if arg not in ("", "smoke"):
        raise UserError(f"configs/profile_quantize.py takes smoke or no argument, not {arg!r}")
    smoke = arg == "smoke"
    training = rqvae.get_config("beauty")
    config = ConfigDict()
    config.task = "profile_quantize"
    config.name = "profile_quantize"
    config.seed = 0

    # One case for each combination of these.
    config.modes = ("assign", "encode", "train")  # latents or embeddings to codes; a training step
    # The accelerator's own kernel, or what stands in for it, and XLA's operations.
    config.implementations = ("xla",) if smoke else ("auto", "xla")
    config.batch_sizes = (2_048,) if smoke else (640, 65_536)
    config.codebook_sizes = (64, 256) if smoke else (256, 2_048)
    config.num_levels = (3,)

    config.embedding_dim = 768  # of the sentence encoders that TIGER reads
    config.model = training.model
    for name in ("codebook_size", "num_levels", "level_sizes"):  # of each case
        del config.model[name]
    config.optimizer = training.optimizer

    # How often a case is called: in its trace, and in so many repeats of at least so long each,
    # untraced, whose median is the time of a call.
    config.num_traced_calls = 5 if smoke else 10
    config.repeats = 3 if smoke else 5
    config.min_seconds = 0.1 if smoke else 0.2
    config.small_ceilings = smoke  # measure the device by small products and copies, for CPUs
    return config
