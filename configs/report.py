"""A finished recommender's run as one page, report.html, with an explorer of users and items.

    python -m genrec_jax.main --config=configs/report.py --config.run=RUN

The page needs no network and no project: it may be sent by mail. Like configs/recommend.py it
computes anew at every command.
"""

from ml_collections import ConfigDict

from genrec_jax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """Takes no argument: the data set is that of the run."""
    if arg:
        raise UserError(f"configs/report.py takes no argument such as {arg!r}: give --config.run")
    config = ConfigDict()
    config.task = "report"
    config.name = "report"
    config.seed = 0  # of the users that are shown, and of the bootstrap
    config.run = ""  # the folder of a finished run of a recommender
    config.num_users = 300  # drawn from those of the test, to be shown one by one; 0 for all
    config.num_items = 20_000  # the most common ones, and all that these users need; 0 for all
    config.num_neighbours = 10  # of each item
    return config
