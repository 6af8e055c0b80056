"""Recommendations for all users of a split, and how good they are."""

import jax
import numpy as np

from genrec_jax import metrics, sharding
from genrec_jax.data import histories
from genrec_jax.data.corpus import Samples
from genrec_jax.decoding import reserve
from genrec_jax.evaluators.searchers import Searcher

CUTOFFS = (1, 5, 10, 20)


class Evaluator:
    """Searches with the model; every user counts once, the last batch included."""

    def __init__(
        self,
        searcher: Searcher,
        mesh: jax.sharding.Mesh,
        items: np.ndarray,
        *,
        unseen_share: float,
        longest_history: int,
        num_beams: int,
        batch_size: int,
    ):
        """Takes what all calls share.

        Args:
            searcher: of the kind of model.
            mesh: the devices, which share each batch of users.
            items: [N] int32, all users' items one after the other.
            unseen_share: the share of the places for items that the model was not trained on.
            longest_history: at least as many items as any user has, all of which can be excluded.
            num_beams: how many items are returned.
            batch_size: users a call.
        """
        self._searcher, self._mesh, self._items = searcher, mesh, items
        self._unseen_share = unseen_share
        self._longest_history = longest_history
        self._num_beams, self._batch_size = num_beams, batch_size

    def recommend(
        self, params, samples: Samples, *, exclude_history: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns items [S, W] int32, best first, and their log-probabilities [S, W].

        Of the first r of them, for each r, the share for unseen items, rounded down, are unseen. At
        a place that is reserved for one, the probability is that among the unseen items.
        """
        searcher = self._searcher
        found = self._find(searcher.index, params, samples, exclude_history, renormalize=False)
        if not self._unseen_share or searcher.unseen_index is None:
            return found
        unseen = self._find(
            searcher.unseen_index, params, samples, exclude_history, renormalize=True
        )
        return reserve.fill(*found, *unseen, searcher.is_unseen, self._unseen_share)

    def _find(self, index, params, samples: Samples, exclude_history: bool, renormalize: bool):
        """Returns the best items [S, W] of an index, best first, and their scores [S, W]."""
        rows = -(-len(samples) // self._batch_size) * self._batch_size  # whole batches
        padded = jax.tree.map(lambda field: np.resize(field, rows), samples)
        calls = []
        for first in range(0, rows, self._batch_size):
            batch = padded.take(slice(first, first + self._batch_size))
            items, batch = histories.alone(self._items, batch, self._longest_history)
            calls.append(
                self._searcher.search(
                    params,
                    self._searcher.data | {"items": sharding.replicate(self._mesh, items)},
                    index,
                    sharding.spread_rows(self._mesh, batch),
                    num_beams=self._num_beams,
                    num_excluded=self._longest_history if exclude_history else 0,
                    renormalize=renormalize,
                )
            )
        items, scores = map(np.concatenate, zip(*jax.device_get(calls), strict=True))
        return items[: len(samples)], scores[: len(samples)]


def score(predictions: np.ndarray, targets: np.ndarray, prefix: str) -> dict[str, float]:
    """Returns all metrics of predictions [S, W] under `prefix/`, and the number of users."""
    rank = metrics.hit_rank(predictions, targets)
    values = metrics.ranking(rank, CUTOFFS) | {"num_users": len(targets)}
    return {f"{prefix}/{name}": value for name, value in values.items()}
