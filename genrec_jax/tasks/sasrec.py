"""Stage `sasrec`: histories to a model that scores the next item, the control of `retrieval`."""

import pathlib
import time

import jax.numpy as jnp

from genrec_jax import checks, ranking, sharding, train_step
from genrec_jax import plan as plan_lib
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, packing
from genrec_jax.evaluators import searchers
from genrec_jax.models import sasrec

_MINIMA = {"row_length": 2}


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Trains SASRec, exports it and returns the metrics."""
    started = time.monotonic()
    ranking.check(config, _MINIMA)
    checks.stack(config, "model")
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    model = sasrec.from_config(config.to_dict(), corpus.num_items)
    mesh = sharding.make_mesh(**config.mesh.to_dict())
    is_unseen = corpus_lib.training_counts(corpus) == 0
    rows = packing.pack(corpus.offsets[:-1], corpus.splits.train_ends, config.row_length)
    ranker = ranking.Ranker(
        searchers.of_scorer(model, mesh, config.max_history, is_unseen),
        rows,
        lambda rng, _: model.init(rng),
        packing.gather,
        loss_fn(model, packing.mean_targets(rows)),
        {},
        {},
        {},
        {},
    )
    metrics = ranking.run(config, workdir, corpus, mesh, ranker)
    return metrics | {"time/seconds": time.monotonic() - started}


def plan(config, workdir: pathlib.Path) -> list[plan_lib.Line]:
    """Returns the arrays of training SASRec."""
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    rows = packing.pack(corpus.offsets[:-1], corpus.splits.train_ends, config.row_length)
    model = sasrec.from_config(config.to_dict(), corpus.num_items)
    return ranking.plan(config, corpus, model, rows, {})


def loss_fn(model, mean_targets: float) -> train_step.LossFn:
    """Returns the loss of a batch of `packing.gather`: cross-entropy.

    It is about the mean over the targets: divided by the mean number of targets of all rows, not of
    the batch, so that each target has the same weight, however batches are drawn, accumulated or
    shared by devices.
    """

    def batch_loss(params, data, batch, step, rng):
        losses = model.bind(params).losses(batch["items"], batch["segments"], rng)
        return jnp.sum(losses) / (len(losses) * mean_targets), ({}, None)

    return batch_loss
