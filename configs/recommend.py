"""What a finished retrieval run recommends, to its own users or to others.

    python -m genrec_jax.main --config=configs/recommend.py --config.run=RUN
    python -m genrec_jax.main --config=configs/recommend.py --config.run=RUN \\
        --config.histories=FILE.jsonl --config.output=FILE.parquet

Unlike the other stages it computes anew at every command, since the files that it reads may have
changed.
"""

from ml_collections import ConfigDict, config_dict

from configs import common
from genrec_jax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """Takes no argument: the data set is that of the run."""
    if arg:
        raise UserError(
            f"configs/recommend.py takes no argument such as {arg!r}: give --config.run"
        )
    config = ConfigDict()
    config.task = "recommend"
    config.name = "recommend"
    config.run = ""  # the folder of a finished retrieval run
    config.tokenizer = ""  # a run of configs/add_items.py, whose items are recommended too
    config.histories = ""  # .jsonl, .txt (both maybe .gz) or .parquet; empty: users of the run
    config.split = "all"  # of the run's users: whole histories, or those before "valid" or "test"
    config.scorer = "model"  # or a baseline, "popularity" or "itemknn", for the run's own users
    config.unknown = "error"  # on items that the run does not know, or "skip" them
    config.k = 10
    config.exclude_history = True
    # Of the places, at least, for items that training lacked; without one, the evaluation's.
    config.unseen_share = config_dict.placeholder(float)
    config.batch_size = 0  # histories at once; 0 for as many as in the run's evaluation
    config.mesh = common.mesh()
    config.output = ""  # .jsonl or .parquet; default WORKDIR/recommendations.jsonl
    config.num_examples = 3
    return config
