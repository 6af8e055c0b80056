"""What a data set is like: counts, histograms, and what is likely to be a mistake in it.

    python -m genrec_jax.main --config=configs/inspect.py:beauty --config.data.dir=FOLDER

Like configs/recommend.py it reads anew at every command.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]; smoke changes nothing."""
    dataset, _ = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "inspect"
    config.name = "inspect"
    config.cache_dir = ""  # prepared data; default WORKDIR/cache
    config.data = common.data(dataset)
    return config
