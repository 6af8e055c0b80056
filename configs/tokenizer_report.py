"""How healthy a finished tokenizer is, in numbers, tables and pictures.

    python -m genrec_jax.main --config=configs/tokenizer_report.py --config.run=RUN

RUN is a tokenizer's run, or a retrieval run that has made its own. Like configs/recommend.py it
computes anew at every command.
"""

from ml_collections import ConfigDict

from genrec_jax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """Takes no argument: the data set is that of the run."""
    if arg:
        raise UserError(
            f"configs/tokenizer_report.py takes no argument such as {arg!r}: give --config.run"
        )
    config = ConfigDict()
    config.task = "tokenizer_report"
    config.name = "tokenizer_report"
    config.seed = 0  # of the sample, and of the shuffled categories
    config.run = ""  # the folder of a finished run
    config.cache_dir = ""  # prepared data and embeddings; default that of the run
    config.num_items = 2_000  # a sample, whose neighbours are searched among all items; 0 for all
    config.num_neighbours = 10
    config.num_groups = 100  # of items with equal codes, the largest, that report.json lists
    return config
