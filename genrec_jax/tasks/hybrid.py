"""Stage `hybrid`: histories to one network that generates semantic IDs and scores items.

It reads the items' embeddings and, of a tokenizer's run, `semantic_ids`, and exports both beside
what `ranking` does. Both heads are also tested alone: `generated/test/...` is the beam search by
semantic IDs, `scored/test/...` the ranking of all items by their scores.
"""

import functools
import math
import pathlib
import time

import jax
import jax.numpy as jnp

from genrec_jax import checks, ranking, sharding, train_step
from genrec_jax import plan as plan_lib
from genrec_jax import workdir as workdir_lib
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data import datasets, embedders, packing
from genrec_jax.decoding.catalogue_tree import CatalogueTree
from genrec_jax.errors import UserError
from genrec_jax.evaluators import searchers
from genrec_jax.models import hybrid
from genrec_jax.models.layers import Model
from genrec_jax.tasks import tokenizer as tokenizer_task

_MINIMA = {"row_length": 2, "code_weight": 0, "backward_weight": 0}
_PARTS = {"generated/": 0.0, "scored/": 1.0}  # by the weight of the scores


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Trains the network, exports it and returns the metrics."""
    started = time.monotonic()
    _check(config)
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    tokenizer = tokenizer_task.load_or_make(config, corpus, workdir, cache_dir)
    content = embedders.embed(corpus, cache_dir, **config.embedder.to_dict())
    model = hybrid.from_config(
        config.to_dict(), corpus.num_items, content.shape[1], tokenizer.level_sizes
    )
    mesh = sharding.make_mesh(**config.mesh.to_dict())
    searcher = searchers.of_hybrid(
        model,
        mesh,
        config.max_history,
        tokenizer.semantic_ids,
        tokenizer.level_sizes,
        content,
        corpus_lib.training_counts(corpus) == 0,
        config.eval.score_weight,
    )
    parts = {
        prefix: searcher._replace(search=functools.partial(searcher.search, score_weight=weight))
        for prefix, weight in _PARTS.items()
    }
    rows = packing.pack(corpus.offsets[:-1], corpus.splits.train_ends, config.row_length)
    ranker = ranking.Ranker(
        searcher,
        rows,
        lambda rng, _: model.init(rng),
        packing.gather,
        loss_fn(
            model,
            packing.mean_targets(rows),
            code_weight=config.code_weight,
            backward_weight=config.backward_weight,
            label_smoothing=config.label_smoothing,
        ),
        tokenizer.metrics,
        {"semantic_ids": tokenizer.semantic_ids, "content": content},
        {"level_sizes": tokenizer.level_sizes},
        parts,
    )
    metrics = ranking.run(config, workdir, corpus, mesh, ranker)
    return metrics | {"time/seconds": time.monotonic() - started}


def plan(config, workdir: pathlib.Path) -> list[plan_lib.Line]:
    """Returns the arrays of training the network, the catalogue's tree as large as it can be."""
    cache_dir = workdir_lib.cache_dir(config, workdir)
    corpus = datasets.load(cache_dir, **config.data.to_dict())
    content = embedders.embed(corpus, cache_dir, **config.embedder.to_dict())
    sizes, num_items = tokenizer_task.planned_level_sizes(config), corpus.num_items
    model = hybrid.from_config(config.to_dict(), num_items, content.shape[1], sizes)
    rows = packing.pack(corpus.offsets[:-1], corpus.splits.train_ends, config.row_length)
    per_item = [
        jax.ShapeDtypeStruct((num_items, len(sizes)), dtype) for dtype in ("int32", "float32")
    ]
    siblings = [
        jax.ShapeDtypeStruct((min(num_items, math.prod(sizes[:level])), size), "bool")
        for level, size in enumerate(sizes)
    ]
    tree = CatalogueTree(per_item[0], per_item[0], tuple(siblings), per_item[1])
    return ranking.plan(config, corpus, model, rows, {"content": content, "tree": tree})


def _check(config) -> None:
    """Refuses what would only fail later, before anything is computed."""
    ranking.check(config, _MINIMA)
    checks.fraction(config, "label_smoothing", "model.item_dropout")
    for stack in ("model.encoder", "model.decoder"):
        checks.stack(config, stack)
    if not 0 <= config.eval.score_weight <= 1:
        raise UserError(
            f"--config.eval.score_weight={config.eval.score_weight} must be from 0 to 1"
        )


def loss_fn(
    model: Model,
    mean_targets: float,
    *,
    code_weight: float,
    backward_weight: float,
    label_smoothing: float,
) -> train_step.LossFn:
    """Returns the loss of a batch of `packing.gather`: the heads' cross-entropies.

    They are about means over the targets: divided by the mean number of targets of all rows, not of
    the batch, so that each target has the same weight, however batches are drawn, accumulated or
    shared by devices.
    """

    def batch_loss(params, data, batch, step, rng):
        losses = model.bind(params).losses(
            batch["items"], batch["segments"], data["catalogue"], label_smoothing, rng
        )
        per_row = len(batch["items"]) * mean_targets
        items, backward = (jnp.sum(part) / per_row for part in (losses.items, losses.backward))
        levels = jnp.sum(losses.codes, axis=(0, 1)) / per_row  # [Q]
        metrics = {f"level_{level}_loss": loss for level, loss in enumerate(levels)}
        metrics |= {"item_loss": items, "backward_loss": backward}
        return items + backward_weight * backward + code_weight * levels.sum(), (metrics, None)

    return batch_loss
