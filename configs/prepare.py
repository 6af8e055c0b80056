"""Raw files to a prepared data set (TFDS, ArrayRecord), for any number of runs to share.

    python -m genrec_jax.main --config=configs/prepare.py:beauty --config.data.dir=FOLDER \\
        --config.cache_dir=CACHE

Other configs take it from there if they are given the same --config.cache_dir.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]; smoke changes nothing."""
    dataset, _ = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "prepare"
    config.name = "prepare"
    config.cache_dir = ""  # default WORKDIR/cache
    config.data = common.data(dataset)
    return config
