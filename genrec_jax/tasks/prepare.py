"""Stage `prepare`: raw files to a prepared data set."""

import pathlib

from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Prepares the data set below `config.cache_dir` and returns its counts."""
    corpus = datasets.load(workdir_lib.cache_dir(config, workdir), **config.data.to_dict())
    return corpus_lib.summary(corpus)
