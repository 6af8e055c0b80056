"""Stage `embed`: items' texts to embeddings."""

import pathlib

from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, embedders


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Embeds the catalogue into `config.cache_dir` and returns counts."""
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    embeddings = embedders.embed(corpus, cache_dir, **config.embedder.to_dict())
    return corpus_lib.summary(corpus) | {"embeddings/width": embeddings.shape[1]}
