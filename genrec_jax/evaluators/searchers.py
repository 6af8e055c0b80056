"""How each kind of model finds the best items for a batch of histories.

B batch   I items   W items wanted   X items excluded
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax import sharding
from genrec_jax.data import histories
from genrec_jax.data.corpus import Samples
from genrec_jax.decoding import prefix_index
from genrec_jax.decoding.beam_search import beam_search
from genrec_jax.models.layers import Model


class Searcher(NamedTuple):
    """A jitted search and what it reads, on all devices, which share each batch.

    `search(params, data, index, samples, num_beams=W, num_excluded=X, renormalize=...)` returns
    items [B, W] int32, best first, -1 where fewer are allowed, and their log-probabilities [B, W],
    -inf there. `data` is that of the searcher and `items` [N], in which the histories lie. The last
    X items of each history, none if X is 0, are not returned, nor those that the index lacks. With
    `renormalize` probabilities are those among the items of the index.
    """

    search: Callable[..., tuple[jax.Array, jax.Array]]
    data: dict[str, jax.Array]
    index: Any  # of all items
    unseen_index: Any  # of those that the model was not trained on, None if there are none
    is_unseen: np.ndarray  # [I] bool


def of_generator(
    model: Model,
    mesh: jax.sharding.Mesh,
    max_history: int,
    semantic_ids: np.ndarray,
    is_unseen: np.ndarray,
) -> Searcher:
    """Returns the beam search by a model of `encoder_decoder`.

    Args:
        model: which reads the last `max_history` items of a history.
        mesh: the devices.
        max_history: see there.
        semantic_ids: [I, Q], no two alike.
        is_unseen: [I] bool.
    """

    def search(params, data, index, samples: Samples, *, num_beams, num_excluded, renormalize):
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

    data, index, unseen_index = sharding.replicate(
        mesh,
        (
            {"semantic_ids": semantic_ids},
            prefix_index.build(semantic_ids),
            prefix_index.build(semantic_ids, is_unseen) if is_unseen.any() else None,
        ),
    )
    return Searcher(_jit(search, mesh), data, index, unseen_index, is_unseen)


def of_scorer(
    model: Model, mesh: jax.sharding.Mesh, max_history: int, is_unseen: np.ndarray
) -> Searcher:
    """Returns the ranking of all items by a model of `sasrec`; an index is [I] bool.

    Args:
        model: which reads the last `max_history` items of a history.
        mesh: the devices.
        max_history: see there.
        is_unseen: [I] bool.
    """

    def search(params, data, index, samples: Samples, *, num_beams, num_excluded, renormalize):
        history = histories.gather(data["items"], samples.start, samples.target, max_history)
        scores = model.bind(params).scores(*history)  # [B, I]
        if renormalize:
            scores = jax.nn.log_softmax(scores, where=index)
        is_allowed = jnp.broadcast_to(index, scores.shape)
        if num_excluded:
            items, mask = histories.gather(
                data["items"], samples.start, samples.target, num_excluded
            )
            items = jnp.where(mask, items, len(index))  # which is dropped
            rows = jnp.arange(len(items))[:, None]
            is_allowed = is_allowed.at[rows, items].set(False, mode="drop")
        scores = jnp.where(is_allowed, scores, -jnp.inf)
        missing = ((0, 0), (0, max(num_beams - len(index), 0)))
        scores = jnp.pad(scores, missing, constant_values=-jnp.inf)
        scores, items = jax.lax.top_k(scores, num_beams)
        return jnp.where(scores > -jnp.inf, items, -1), scores

    index, unseen_index = sharding.replicate(
        mesh, (np.ones(len(is_unseen), bool), is_unseen if is_unseen.any() else None)
    )
    return Searcher(_jit(search, mesh), {}, index, unseen_index, is_unseen)


def _jit(search: Callable, mesh: jax.sharding.Mesh) -> Callable:
    return functools.partial(
        jax.jit,
        static_argnames=("num_beams", "num_excluded", "renormalize"),
        out_shardings=sharding.replicated(mesh),
    )(search)
