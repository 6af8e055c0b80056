"""How good recommendations are, for a run's page: tables and charts from the ranks of test users.

Ranks are those of ranks.parquet by the prefix of their metrics, [S] each, see `metrics.hit_rank`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from genrec_jax import metrics
from genrec_jax.data import inspection
from genrec_jax.report import charts

Ranks = Mapping[str, np.ndarray]

TOLD = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")
PROTOCOLS = {"test": "Any item may come next", "test_new": "Items of the history are left out"}
_NAMES = {
    "": "this model",
    "generated/": "what it generates, alone",
    "scored/": "what it scores, alone",
    "baseline/itemknn/": "item-kNN",
    "baseline/popularity/": "the most popular items",
}
_COMPARED = ("", "baseline/itemknn/", "baseline/popularity/")  # by groups of users
_NUM_RESAMPLES = 1_000
_CUTOFF = 10  # of the charts


class Interval(NamedTuple):
    """A mean over users, and between what it lies with 95%, see `metrics.bootstrap_interval`."""

    mean: float
    low: float
    high: float


def interval(values: np.ndarray, rng: np.random.Generator) -> Interval:
    """Returns the mean of values [S]."""
    return Interval(float(values.mean()), *metrics.bootstrap_interval(values, _NUM_RESAMPLES, rng))


def table(ranks: Ranks, protocol: str, rng: np.random.Generator) -> dict[str, dict[str, Interval]]:
    """Returns the metrics `TOLD` of each recommender by one of the protocols."""
    return {
        name: {
            metric: interval(values, rng)
            for metric, values in metrics.per_example(ranks[prefix + protocol], (5, 10)).items()
            if metric in TOLD
        }
        for prefix, name in _NAMES.items()
        if prefix + protocol in ranks
    }


def all_charts(
    ranks: Ranks, lengths: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> dict[str, str]:
    """Returns charts of the recall at 10 where any item may come next.

    Args:
        ranks: of all recommenders.
        lengths: [S] items in each user's history.
        counts: [S] times that each user's target is in training.
        rng: of the bootstrap.
    """
    recalls = {
        _NAMES[prefix]: metrics.recall_at_k(ranks[f"{prefix}test"], _CUTOFF)
        for prefix in _COMPARED
        if f"{prefix}test" in ranks
    }
    y = f"found among {_CUTOFF}"
    return {
        "by_length": _by_size(recalls, lengths, rng, x="items in the history", y=y),
        "by_popularity": _by_size(recalls, counts, rng, x="times the item is in training", y=y),
        "by_cutoff": charts.curves(
            _by_cutoff(ranks), x="recommendations that are looked at", is_share=True
        ),
    }


def _by_size(recalls, sizes: np.ndarray, rng, *, x: str, y: str) -> str:
    bins = [one for one in inspection.histogram(sizes) if one["count"]]
    series = {}
    for name, values in recalls.items():
        inside = (values[(one["first"] <= sizes) & (sizes <= one["last"])] for one in bins)
        series[name] = charts.Intervals(
            *zip(*(interval(part, rng) for part in inside), strict=True)
        )
    names, counts = [*map(charts.span, bins)], [one["count"] for one in bins]
    return charts.groups(names, counts, series, x=x, y=y)


def _by_cutoff(ranks: Ranks) -> charts.Series:
    """Returns the recall at every cut-off up to the last rank that anyone has."""
    series = {}
    for prefix in _COMPARED:
        rank = ranks.get(f"{prefix}test")
        if rank is not None and (rank < metrics.MISS).any():
            found = np.bincount(rank[rank < metrics.MISS])
            series[_NAMES[prefix]] = (range(1, len(found) + 1), np.cumsum(found) / len(rank))
    return series
