"""What stages that train a recommender share: evaluation, selection, examples, baselines, export.

The export holds what a recommender needs, see `recommender`: `state`, the parameters that
validation selected, and whatever else the kind of model reads.
"""

import functools
import itertools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow
from pyarrow import parquet

from genrec_jax import (
    checkpoint,
    checks,
    distributed,
    files,
    optimizer,
    profiling,
    sharding,
    train,
    train_step,
)
from genrec_jax import metrics as metrics_lib
from genrec_jax import plan as plan_lib
from genrec_jax.data import batches
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data.corpus import Corpus, Samples
from genrec_jax.data.packing import Rows
from genrec_jax.errors import UserError
from genrec_jax.evaluators import baselines
from genrec_jax.evaluators import retrieval as evaluator
from genrec_jax.evaluators.searchers import Searcher
from genrec_jax.models import layers

_DTYPES = ("auto", "float32", "bfloat16")
_INTERACTIONS_ON = ("devices", "host")
_MINIMA = {
    "seed": 0,
    "max_history": 1,
    "patience": 0,
    "num_examples": 0,
    "eval.max_users": 0,
} | train.MINIMA
_PROTOCOLS = {"": False, "_new": True}  # suffix of the split -> is the history excluded
_EXAMPLES = "test", "_new"  # what examples.json shows


class Ranker(NamedTuple):
    """A kind of model and how it is trained."""

    searcher: Searcher
    samples: Samples | Rows  # for training
    init: Callable[[jax.Array, Any], dict]  # (rng, data) -> params
    # From numbers of samples to a batch of `loss_fn`, by `items` [N] and `samples`; or None, if the
    # loss draws from these two itself.
    gather: train_step.GatherFn | None
    loss_fn: train_step.LossFn  # whose data are those of the searcher
    metrics: dict[str, float]  # of what it is made from
    arrays: dict[str, np.ndarray]  # to export beside `state`
    meta: dict[str, Any]  # to export beside what all kinds do
    # Ways to search with parts of the model, which are tested too, by the prefix of their metrics.
    parts: dict[str, Searcher]
    packing: batches.Packing | None = None  # of samples that are not packed yet


def check(config, minima: dict[str, float]) -> None:
    """Refuses what would only fail later, before anything is computed."""
    checks.choice(config, "dtype", _DTYPES)
    checks.choice(config, "interactions_on", _INTERACTIONS_ON)
    checks.choice(config, "model.activation", tuple(layers.ACTIVATIONS))
    checks.at_least(config, _MINIMA | minima)
    checks.fraction(config, "ema_decay", "eval.unseen_share")
    profiling.check(config)
    num_shards = sharding.num_shards(**config.mesh.to_dict())
    for name, batch_size, parts in (
        ("--config.batch_size", config.batch_size, config.accumulation),
        ("--config.eval.batch_size", config.eval.batch_size, 1),
    ):
        sharding.check_batch_size(name, batch_size, num_shards, parts)
    if config.eval.num_beams < max(evaluator.CUTOFFS):
        raise UserError(
            f"--config.eval.num_beams={config.eval.num_beams} cannot fill the "
            f"{max(evaluator.CUTOFFS)} places that are evaluated: give at least so many"
        )


def plan(
    config, corpus: Corpus, model: layers.Model, samples: Samples | Rows, catalogue: dict
) -> list[plan_lib.Line]:
    """Returns the arrays of training a model that reads `catalogue`, arrays or their shapes."""
    tx, _ = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    stored = {"items": corpus.items, "samples": samples}
    data = catalogue if config.interactions_on == "host" else catalogue | stored
    state = plan_lib.state(model, tx, config.ema_decay)
    return plan_lib.arrays(config, state, split={}, whole=data)


def run(
    config, workdir: pathlib.Path, corpus: Corpus, mesh: jax.sharding.Mesh, ranker: Ranker
) -> dict[str, float]:
    """Trains the model, exports it and returns the metrics, in process 0 those of baselines too."""
    held_out = {
        split: corpus_lib.choose_samples(
            corpus_lib.held_out_samples(corpus, split), config.eval.max_users
        )
        for split in ("valid", "test")
    }
    sizes = {"train": len(ranker.samples)} | {split: len(part) for split, part in held_out.items()}
    if not all(sizes.values()):
        raise UserError(
            f"no samples in {', '.join(name for name, size in sizes.items() if not size)}: this "
            f"data set's histories are too few or too short for --config.data.split="
            f"{config.data.split}"
        )

    stored = {"items": corpus.items, "samples": ranker.samples}
    data, gather, loss_fn = ranker.searcher.data, ranker.gather, ranker.loss_fn
    if config.interactions_on == "host":
        gather = functools.partial(gather, stored)
    else:
        data |= sharding.replicate(mesh, stored)
        if gather:
            gather, loss_fn = None, train_step.gathering(gather, loss_fn)
    interactions = corpus_lib.interactions_fingerprint(corpus)
    tx, schedule = optimizer.make(num_steps=config.num_steps, **config.optimizer.to_dict())
    longest_history = max(int((part.target - part.start).max()) for part in held_out.values())
    evaluators = {
        prefix: evaluator.Evaluator(
            searcher,
            mesh,
            corpus.items,
            unseen_share=config.eval.unseen_share,
            longest_history=longest_history,
            num_beams=config.eval.num_beams,
            batch_size=config.eval.batch_size,
        )
        for prefix, searcher in ({"": ranker.searcher} | ranker.parts).items()
    }

    def recommend_and_score(params, split: str, protocol: str, part: str = ""):
        samples, exclude_history = held_out[split], _PROTOCOLS[protocol]
        items, _ = evaluators[part].recommend(params, samples, exclude_history=exclude_history)
        return items, _score(items, corpus, samples, part + split, protocol)

    result = train.fit(
        name=config.name,
        workdir=workdir,
        mesh=mesh,
        init=ranker.init,
        loss_fn=loss_fn,
        tx=tx,
        schedule=schedule,
        data=data,
        data_fingerprint=" ".join([interactions, *map(files.digest, ranker.arrays.values())]),
        num_samples=len(ranker.samples),
        batch_size=config.batch_size,
        packing=ranker.packing,
        gather=gather,
        accumulation=config.accumulation,
        ema_decay=config.ema_decay,
        rules=None,
        num_steps=config.num_steps,
        steps_per_call=config.steps_per_call,
        eval_every=config.eval_every,
        skip_nonfinite=config.skip_nonfinite,
        checkpointing=checkpoint.Policy(**config.checkpoint.to_dict()),
        evaluate=lambda params: recommend_and_score(params, "valid", "")[1],
        headline=("valid/recall@10", "valid/ndcg@10"),
        select="valid/ndcg@10",
        patience=config.patience,
        seed=config.seed,
        profile=profiling.interval(config, workdir),
        trackers=config.trackers,
    )

    metrics = corpus_lib.summary(corpus) | ranker.metrics | result.metrics
    metrics["train/best_step"] = result.step
    metrics["model/num_parameters"] = sum(leaf.size for leaf in jax.tree.leaves(result.params))
    ranks = {}
    for part, split, protocol in itertools.product(evaluators, held_out, _PROTOCOLS):
        items, scores = recommend_and_score(result.params, split, protocol, part)
        metrics |= scores
        if split == "test":
            ranks[part + split + protocol] = _ranks(items, corpus, held_out[split])
        if (part, split, protocol) == ("", *_EXAMPLES) and distributed.is_first():
            shown = config.max_history, config.num_examples
            _write_examples(workdir, corpus, held_out[split], items, *shown)
    state = {"params": result.params, "step": np.int32(result.step)}
    is_unseen = ranker.searcher.is_unseen
    export(
        workdir, config.to_dict(), corpus, is_unseen, {"state": state} | ranker.arrays, ranker.meta
    )
    if not distributed.is_first():
        return metrics
    baseline_metrics, baseline_ranks = _baselines(corpus, held_out["test"])
    _write_ranks(workdir, corpus, held_out["test"], ranks | baseline_ranks)
    return metrics | baseline_metrics


def export(
    workdir: pathlib.Path,
    settings: dict,
    corpus: Corpus,
    is_unseen: np.ndarray,
    arrays: dict[str, Any],
    meta: dict[str, Any],
) -> None:
    """Exports a recommender.

    Args:
        workdir: of the run.
        settings: its config.
        corpus: the data set.
        is_unseen: [I] bool, which items training lacked.
        arrays: `state`, which is `params` and `step`, and what else the kind of model reads.
        meta: what else that kind tells.
    """
    checkpoint.export(
        workdir,
        arrays,
        {
            "config": settings,
            "corpus": corpus_lib.fingerprint(corpus),
            "interactions": corpus_lib.interactions_fingerprint(corpus),
            "item_ids": corpus.item_ids,
            "titles": corpus.titles,
            "unseen_items": np.flatnonzero(is_unseen).tolist(),
        }
        | meta,
    )


def _score(
    items: np.ndarray, corpus: Corpus, samples: Samples, split: str, protocol: str
) -> dict[str, float]:
    """Returns the metrics of items [S, W]; those of the test also for its cold targets alone."""
    targets = corpus.items[samples.target]
    scores = evaluator.score(items, targets, split + protocol)
    is_cold = corpus.is_cold[targets]
    if split.endswith("test") and is_cold.any():
        prefix = f"{split}_cold{protocol}"
        scores |= evaluator.score(items[is_cold], targets[is_cold], prefix)
    return scores


def _ranks(items: np.ndarray, corpus: Corpus, samples: Samples) -> np.ndarray:
    """Returns [S] int32: the target's place among items [S, W], see `metrics.hit_rank`."""
    return metrics_lib.hit_rank(items, corpus.items[samples.target])


def _baselines(corpus: Corpus, samples: Samples) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the baselines' metrics on the test, and the ranks of the targets by prefix."""
    metrics, ranks = {}, {}
    for name in baselines.NAMES:
        scorer = baselines.scorer(name, corpus)
        if scorer is None:
            continue
        for protocol, exclude in _PROTOCOLS.items():
            items, _ = baselines.recommend(
                scorer, corpus, samples, max(evaluator.CUTOFFS), exclude_history=exclude
            )
            metrics |= _score(items, corpus, samples, f"baseline/{name}/test", protocol)
            ranks[f"baseline/{name}/test{protocol}"] = _ranks(items, corpus, samples)
    return metrics, ranks


def _write_ranks(workdir, corpus: Corpus, samples: Samples, ranks: dict[str, np.ndarray]) -> None:
    """Writes ranks.parquet: each test user, the target, and its rank from 1 on, null if not found.

    The columns of ranks are named after the prefixes of the metrics that are their means.
    """
    columns = {
        "user_id": [corpus.user_ids[user] for user in samples.user],
        "item_id": [corpus.item_ids[item] for item in corpus.items[samples.target]],
    }
    columns |= {
        name: pyarrow.array(rank + 1, pyarrow.int32(), mask=rank == metrics_lib.MISS)
        for name, rank in ranks.items()
    }
    with files.replacing(pathlib.Path(workdir) / "ranks.parquet") as partial:
        parquet.write_table(pyarrow.table(columns), partial)


def _write_examples(
    workdir, corpus: Corpus, samples: Samples, items, max_history: int, num_examples: int
) -> None:
    """Writes examples.json: what the model reads of a few users, target, recommended, by title."""
    chosen = np.linspace(0, len(samples) - 1, min(num_examples, len(samples)), dtype=int)
    examples = []
    for row in chosen:
        history = corpus.items[samples.start[row] : samples.target[row]][-max_history:]
        best = [item for item in items[row, :10] if item >= 0]
        examples.append(
            {
                "user_id": corpus.user_ids[samples.user[row]],
                "history": [corpus.titles[item] for item in history],
                "target": corpus.titles[corpus.items[samples.target[row]]],
                "recommended": [corpus.titles[item] for item in best],
            }
        )
    files.write_json(pathlib.Path(workdir) / "examples.json", examples)
