"""Stage `prepare`: raw files to a prepared data set."""

import pathlib

from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Prepares the data set below `config.cache_dir` and returns its counts."""
    corpus = datasets.load(config.cache_dir or workdir / "cache", **config.data.to_dict())
    return corpus_lib.summary(corpus)
