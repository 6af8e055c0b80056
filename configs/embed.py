"""Items' texts to embeddings, for any number of runs to share.

    python -m genrec_jax.main --config=configs/embed.py:beauty --config.data.dir=FOLDER \\
        --config.cache_dir=CACHE

Other configs take them from there if they are given the same --config.cache_dir and the same
`embedder`.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]."""
    dataset, smoke = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "embed"
    config.name = "embed"
    config.cache_dir = ""  # default WORKDIR/cache
    config.data = common.data(dataset)
    config.embedder = common.embedder(smoke)
    return config
