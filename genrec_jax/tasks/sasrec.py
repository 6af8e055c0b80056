"""Stage `sasrec`: histories to a model that scores the next item, the control of `retrieval`."""

import pathlib
import time

import jax.numpy as jnp
import numpy as np

from genrec_jax import ranking, sharding, train
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, histories
from genrec_jax.data.corpus import Samples
from genrec_jax.errors import UserError
from genrec_jax.evaluators import searchers
from genrec_jax.models import sasrec

_MINIMA = {"model.num_layers": 1}


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Trains SASRec, exports it and returns the metrics."""
    started = time.monotonic()
    ranking.check(config, _MINIMA)
    if config.model.dim % config.model.num_heads:
        raise UserError(
            f"--config.model.dim={config.model.dim} cannot be split into "
            f"{config.model.num_heads} heads: make it a multiple of --config.model.num_heads"
        )
    cache_dir = pathlib.Path(config.cache_dir or workdir / "cache")
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    model = sasrec.from_config(config.to_dict(), corpus.num_items)
    mesh = sharding.make_mesh()
    is_unseen = corpus_lib.training_counts(corpus) == 0
    samples = corpus_lib.whole_training_samples(corpus)
    ranker = ranking.Ranker(
        searchers.of_scorer(model, mesh, config.max_history, is_unseen),
        samples,
        lambda rng, _: model.init(rng),
        loss_fn(model, config.max_history, mean_targets(samples, config.max_history)),
        {},
        {},
        {},
    )
    metrics = ranking.run(config, workdir, corpus, mesh, ranker)
    return metrics | {"time/seconds": time.monotonic() - started}


def mean_targets(samples: Samples, max_history: int) -> float:
    """Returns how many items of a history are targets, the mean over the samples."""
    return float(np.minimum(samples.target - samples.start, max_history).mean())


def loss_fn(model, max_history: int, mean_targets: float) -> train.LossFn:
    """Returns the loss of a batch of histories: cross-entropy, about the mean over their targets.

    It is divided by the mean number of targets of all histories, not of the batch, so that each
    target has the same weight, however batches are drawn, accumulated or shared by devices.
    """

    def batch_loss(params, data, indices, step, rng):
        samples = data["samples"].take(indices)
        # The target is the last item of a history; all after the first are to be predicted.
        items, is_there = histories.gather(
            data["items"], samples.start, samples.target + 1, max_history + 1
        )
        losses = model.bind(params).losses(items[:, :-1], is_there[:, 1:], items[:, 1:], rng)
        return jnp.mean(jnp.sum(losses, axis=1)) / mean_targets, ({}, None)

    return batch_loss
