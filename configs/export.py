"""A finished run for others to use, without this project: docs/export.md.

python -m genrec_jax.main --config=configs/export.py --config.run=RUN --workdir=exported
"""

from ml_collections import ConfigDict

from genrec_jax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """Takes no argument: the data set is that of the run."""
    if arg:
        raise UserError(f"configs/export.py takes no argument such as {arg!r}: give --config.run")
    config = ConfigDict()
    config.task = "export"
    config.name = "export"
    config.run = ""  # the folder of a finished run, of a recommender or a tokenizer
    config.k = 10
    config.exclude_history = True
    config.length = 64  # the most items of a history that count, the last ones
    config.platforms = ("cpu", "cuda", "tpu")
    return config
