"""Several runs of one kind that differ in their seeds, as one row of a table of results.

    python -m genrec_jax.main --config=configs/summary.py --config.runs=RUN0,RUN1,RUN2

The runs are those of one recommender's config on one data set.
"""

from ml_collections import ConfigDict

from genrec_jax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """Takes no argument: the data set is that of the runs."""
    if arg:
        raise UserError(f"configs/summary.py takes no argument such as {arg!r}: give --config.runs")
    config = ConfigDict()
    config.task = "summary"
    config.name = "summary"
    config.seed = 0  # of the bootstrap
    config.runs = ""  # folders of finished runs, with commas between
    config.num_resamples = 1_000  # of the bootstrap over users
    return config
