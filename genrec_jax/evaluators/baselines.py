"""Recommenders that need no training, for the same users and metrics.

U users   I items   S samples
"""

import logging
from collections.abc import Callable

import numpy as np
import scipy.sparse

from genrec_jax.data import corpus as corpus_lib
from genrec_jax.data.corpus import Corpus, Samples

_SCORES_AT_ONCE = 2**25  # float64, 256 MiB
_MOST_PAIRS = 2**29  # of items that users have together: their similarities take at most 6 GiB
NAMES = ("popularity", "itemknn")
_log = logging.getLogger(__name__)


def scorer(name: str, corpus: Corpus) -> Callable[[Samples], np.ndarray] | None:
    """Returns a baseline, or None for item-kNN if it would take too much memory, which is said."""
    if name == "popularity":
        return popularity(corpus)
    lengths = (corpus.splits.train_ends - corpus.offsets[:-1]).astype(np.float64)
    num_pairs = (lengths**2).sum()
    if num_pairs > _MOST_PAIRS:
        _log.warning(
            "baseline itemknn is left out: the training histories have %.3g pairs of items, and "
            "more than %.3g take too much memory",
            num_pairs,
            _MOST_PAIRS,
        )
        return None
    return item_knn(corpus)


def popularity(corpus: Corpus) -> Callable[[Samples], np.ndarray]:
    """Returns the scorer [S, I] that ranks items by how often they occur in training."""
    counts = corpus_lib.training_counts(corpus).astype(np.float64)
    return lambda samples: np.tile(counts, (len(samples), 1))


def item_knn(corpus: Corpus) -> Callable[[Samples], np.ndarray]:
    """Returns the scorer [S, I] that ranks items by how similar they are to the history's.

    The similarity of two items is the cosine of the sets of users who have them in training; a
    candidate's score is its sum over the history (Sarwar et al., 2001, all neighbours). Items
    that score the same are in order of popularity.
    """
    users_items = corpus_lib.training_sets(corpus)
    together = (users_items.T @ users_items).tocsr()
    norms = np.sqrt(np.maximum(together.diagonal(), 1))
    scale = scipy.sparse.diags(1 / norms)
    similarity = scale @ together @ scale
    similarity -= scipy.sparse.diags(similarity.diagonal())  # an item is no neighbour of itself
    popularity = corpus_lib.training_counts(corpus)
    tie_break = 1e-9 * popularity / max(popularity.max(), 1)

    def scores(samples: Samples) -> np.ndarray:
        history = _histories(corpus, samples)
        return (history @ similarity).toarray() + tie_break

    return scores


def recommend(
    scorer: Callable[[Samples], np.ndarray],
    corpus: Corpus,
    samples: Samples,
    num_items: int,
    *,
    exclude_history: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best items [S, num_items] int32 by the scorer, best first, and their scores.

    With `exclude_history` no item of a user's whole history is returned; -1 stands where the
    catalogue has too few others, and -inf beside it.
    """
    num_items = min(num_items, corpus.num_items)
    chunk = max(1, _SCORES_AT_ONCE // corpus.num_items)
    best = []
    for first in range(0, len(samples), chunk):
        part = samples.take(slice(first, first + chunk))
        scores = scorer(part)
        if exclude_history:
            scores[_histories(corpus, part).nonzero()] = -np.inf
        best += [_top(row, num_items) for row in scores]
    items, scores = map(np.stack, zip(*best, strict=True))
    return items.astype(np.int32), scores


def _top(scores: np.ndarray, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns [num_items] items by scores [I], ties by number, -1 beside -inf, and the scores."""
    last = np.partition(scores, -num_items)[-num_items]
    # A partition would cut ties with the last at random: sort all of them, stably.
    candidates = np.flatnonzero(scores >= last)
    order = np.argsort(-scores[candidates], kind="stable")[:num_items]
    top = candidates[order]
    return np.where(scores[top] > -np.inf, top, -1), scores[top]


def _histories(corpus: Corpus, samples: Samples) -> scipy.sparse.csr_array:
    """Returns [S, I]: how often each item occurs in each sample's history."""
    lengths = samples.target - samples.start
    row = np.repeat(np.arange(len(samples)), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = corpus.items[samples.start[row] + within]
    shape = len(samples), corpus.num_items
    return scipy.sparse.coo_array((np.ones(len(row)), (row, items)), shape).tocsr()
