"""Stage `inspect`: what a data set is like, and what in it is likely to be a mistake.

Writes report.json: histograms, and the problems found.
"""

import pathlib

import numpy as np

from genrec_jax import files
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, inspection


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Returns the data set's counts, and under `problems/` how many there are of each."""
    corpus = datasets.load(workdir_lib.cache_dir(config, workdir), **config.data.to_dict())
    lengths, popularity = inspection.lengths(corpus), inspection.popularity(corpus)
    found = inspection.problems(corpus)
    report = {
        "histograms": [
            {"name": "events", "of": "users", "bins": inspection.histogram(lengths)},
            {"name": "events", "of": "items", "bins": inspection.histogram(popularity)},
        ],
        "problems": [problem._asdict() for problem in found],
    }
    files.write_json(workdir / "report.json", report)
    return (
        corpus_lib.summary(corpus)
        | _spread("events_of_a_user", lengths)
        | _spread("events_of_an_item", popularity)
        | {f"problems/{problem.name}": problem.count for problem in found}
    )


def _spread(name: str, counts: np.ndarray) -> dict[str, float]:
    return {
        f"{name}/mean": float(counts.mean()),
        f"{name}/median": float(np.median(counts)),
        f"{name}/most": int(counts.max()),
    }
