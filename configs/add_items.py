"""Semantic IDs for items that are added later, without training again.

    python -m genrec_jax.main --config=configs/add_items.py:files --config.run=IDS \\
        --config.data.dir=NEW --workdir=IDS2

IDS is a finished tokenizer run, NEW a data set with all of its items and more. All items keep their
IDs; the others get theirs from the same codebooks. IDS2 serves like any tokenizer's run: one that
saw histories, by the embedder `collaborative`, serves retrieval runs on these histories alone.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """`arg` is [DATASET][,smoke]; nothing is trained, so `smoke` changes nothing."""
    dataset, _ = common.parse_arg(arg)
    config = ConfigDict()
    config.task = "add_items"
    config.name = "add_items"
    config.run = ""  # the folder of a finished tokenizer run
    config.cache_dir = ""  # prepared data and embeddings; default WORKDIR/cache
    config.data = common.data(dataset)  # whose items are to have IDs
    config.path = ""  # of precomputed embeddings, of all items; default that of the run
    return config
