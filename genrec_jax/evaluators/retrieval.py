"""Recommendations for all users of a split by beam search, and how good they are."""

import functools

import jax
import numpy as np

from genrec_jax import metrics, sharding
from genrec_jax.data import histories
from genrec_jax.data.corpus import Samples
from genrec_jax.decoding import prefix_index, reserve
from genrec_jax.decoding.beam_search import beam_search
from genrec_jax.models.layers import Model

CUTOFFS = (1, 5, 10, 20)


def make_search(model: Model, mesh: jax.sharding.Mesh, max_history: int):
    """Returns the jitted search for a batch of histories, which the devices share.

    `search(params, data, index, samples, num_beams=W, num_excluded=X, renormalize=...)` returns
    items [B, W] int32, best first, and their log-probabilities [B, W], see `beam_search`. `data`
    holds `items` [N], in which the histories lie, and `semantic_ids` [I, Q], those of the prefix
    index. The model reads the last `max_history` items of each history; its last X items, none if
    X is 0, are not returned, nor are those that the index lacks.
    """

    @functools.partial(
        jax.jit,
        static_argnames=("num_beams", "num_excluded", "renormalize"),
        out_shardings=sharding.replicated(mesh),
    )
    def search(
        params,
        data,
        index,
        samples: Samples,
        *,
        num_beams: int,
        num_excluded: int,
        renormalize: bool,
    ):
        module = model.bind(params)
        items, mask = histories.gather(data["items"], samples.start, samples.target, max_history)
        memory = module.encode(data["semantic_ids"][items], mask, samples.user)
        shared, cache = module.start_search(memory)

        def step(level, codes, cache):
            return module.search_step(level, codes, cache, shared, memory.mask)

        excluded = None
        if num_excluded:
            excluded = prefix_index.sorted_exclusions(
                index,
                *histories.gather(data["items"], samples.start, samples.target, num_excluded),
            )
        return beam_search(step, cache, index, num_beams, len(items), excluded, renormalize)

    return search


class Evaluator:
    """Searches with the model; every user counts once, the last batch included."""

    def __init__(
        self,
        model: Model,
        mesh: jax.sharding.Mesh,
        data: dict[str, jax.Array],
        index: prefix_index.PrefixIndex,
        unseen_index: prefix_index.PrefixIndex | None,
        *,
        unseen_share: float,
        max_history: int,
        longest_history: int,
        num_beams: int,
        batch_size: int,
    ):
        """Makes the search.

        Args:
            model: of `encoder_decoder`.
            mesh: the devices, which share each batch of users.
            data: on the devices: `items` [N], all users' items, and `semantic_ids` [I, Q].
            index: of `data["semantic_ids"]`.
            unseen_index: of those of the items that the model was not trained on; None if there are
                none, or no places are reserved for them.
            unseen_share: the share of the places that are.
            max_history: how many items the model reads.
            longest_history: at least as many items as any user has, all of which can be excluded.
            num_beams: how many items are returned.
            batch_size: users a call.
        """
        self._mesh, self._data, self._index = mesh, data, index
        self._unseen_index, self._unseen_share = unseen_index, unseen_share
        self._longest_history = longest_history
        self._num_beams, self._batch_size = num_beams, batch_size
        self._search = make_search(model, mesh, max_history)

    def recommend(
        self, params, samples: Samples, *, exclude_history: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns items [S, W] int32, best first, and their log-probabilities [S, W].

        Of the first r of them, for each r, the share for unseen items, rounded down, are unseen. At
        a place that is reserved for one, the probability is that among the unseen items.
        """
        found = self._find(self._index, params, samples, exclude_history, renormalize=False)
        if self._unseen_index is None:
            return found
        unseen = self._find(self._unseen_index, params, samples, exclude_history, renormalize=True)
        is_unseen = np.asarray(self._unseen_index.is_there)
        return reserve.fill(*found, *unseen, is_unseen, self._unseen_share)

    def _find(self, index, params, samples: Samples, exclude_history: bool, renormalize: bool):
        """Returns the best items [S, W] of an index, best first, and their scores [S, W]."""
        rows = -(-len(samples) // self._batch_size) * self._batch_size  # whole batches
        padded = jax.tree.map(lambda field: np.resize(field, rows), samples)
        by_row = sharding.over_rows(self._mesh)
        calls = []
        for first in range(0, rows, self._batch_size):
            batch = padded.take(slice(first, first + self._batch_size))
            batch = jax.device_put(batch, by_row)
            calls.append(
                self._search(
                    params,
                    self._data,
                    index,
                    batch,
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
