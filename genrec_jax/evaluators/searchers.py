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
from genrec_jax.decoding import catalogue_tree, item_scores, prefix_index
from genrec_jax.decoding.beam_search import Beams, beam_search
from genrec_jax.models import hybrid
from genrec_jax.models.layers import Model


class Searcher(NamedTuple):
    """A jitted search and what it reads, on all devices, which share each batch.

    `search(params, data, index, samples, num_beams=W, num_excluded=X, renormalize=...)` returns
    items [B, W] int32, best first, -1 where fewer are allowed, and their log-probabilities [B, W],
    -inf there. `data` is that of the searcher and `items` [N], in which the histories lie. The last
    X items of each history, none if X is 0, are not returned, nor those that the index lacks. With
    `renormalize` probabilities are those among the items of the index.

    `trace`, which takes the same, returns the items [B, W] that a beam search finds, and the beams
    of all levels; it is None if there is no such search.
    """

    search: Callable[..., tuple[jax.Array, jax.Array]]
    trace: Callable[..., tuple[jax.Array, list[Beams]]] | None
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
        semantic_ids: [I, Q], no two alike. A model of Q - 1 levels neither reads nor scores the
            last code, so that items which only differ there have one score, that of all of them.
        is_unseen: [I] bool.
    """
    num_extra = int(semantic_ids[:, -1].max()) + 1  # values of the last code

    def find(params, data, index, samples: Samples, *, num_beams, num_excluded, renormalize):
        module = model.bind(params)
        num_levels = len(module.level_sizes)
        items, mask = histories.gather(data["items"], samples.start, samples.target, max_history)
        memory = module.encode(data["semantic_ids"][items, :num_levels], mask, samples.user)
        shared, cache = module.start_search(memory)

        def step(level, codes, cache):
            if level == num_levels:  # to the model, items that only differ here are the same
                return jnp.zeros((*codes.shape, num_extra)), cache
            return module.search_step(level, codes, cache, shared, memory.mask)

        excluded = None
        if num_excluded:
            excluded = prefix_index.sorted_exclusions(
                index,
                *histories.gather(data["items"], samples.start, samples.target, num_excluded),
            )
        items, scores, levels = beam_search(
            step, cache, index, num_beams, items.shape[0], excluded, renormalize
        )
        return (items, scores), (items, levels)

    data, index, unseen_index = sharding.replicate(
        mesh,
        (
            {"semantic_ids": semantic_ids},
            prefix_index.build(semantic_ids),
            prefix_index.build(semantic_ids, is_unseen) if is_unseen.any() else None,
        ),
    )
    return Searcher(_jit(find, mesh, 0), _jit(find, mesh, 1), data, index, unseen_index, is_unseen)


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

    def find(params, data, index, samples: Samples, *, num_beams, num_excluded, renormalize):
        history = histories.gather(data["items"], samples.start, samples.target, max_history)
        scores = model.bind(params).scores(*history)  # [B, I]
        if renormalize:
            scores = jax.nn.log_softmax(scores, where=index)
        return (_best(_allowed(scores, index, data["items"], samples, num_excluded), num_beams),)

    index, unseen_index = sharding.replicate(
        mesh, (np.ones(len(is_unseen), bool), is_unseen if is_unseen.any() else None)
    )
    return Searcher(_jit(find, mesh, 0), None, {}, index, unseen_index, is_unseen)


def of_hybrid(
    model: Model,
    mesh: jax.sharding.Mesh,
    max_history: int,
    semantic_ids: np.ndarray,
    level_sizes: tuple[int, ...],
    content: np.ndarray,
    is_unseen: np.ndarray,
    score_weight: float,
) -> Searcher:
    """Returns the search by a model of `hybrid`: both heads find items and both judge them.

    Candidates are the W best items of the beam search and the W best by score. They are ranked by
    the mean of both log-probabilities, which is returned, and which is none itself.

    Args:
        model: which reads the last `max_history` items of a history.
        mesh: the devices.
        max_history: see there.
        semantic_ids: [I, Q], no two alike.
        level_sizes: how many codes each level has.
        content: [I, E].
        is_unseen: [I] bool.
        score_weight: of the scores in the mean. With 0 the search returns what the beam search
            does, with 1 it ranks all items by their scores. The search itself takes it too, as
            `score_weight`, which has precedence. All weights take the same time.
    """

    def find(
        params, data, index, samples: Samples, score_weight, *, num_beams, num_excluded, renormalize
    ):
        module, catalogue = model.bind(params), data["catalogue"]
        tree = catalogue.tree
        items, mask = histories.gather(data["items"], samples.start, samples.target, max_history)
        vectors = module.vectors(catalogue)
        memory = module.encode(items, jnp.where(mask, 0, -1), vectors)
        state, memory = memory.at(hybrid.last_places(mask))

        shared, cache = module.start_search(memory)
        step = functools.partial(
            module.search_step, state=state, shared=shared, memory=memory, tree=tree
        )
        excluded = None
        if num_excluded:
            past = histories.gather(data["items"], samples.start, samples.target, num_excluded)
            excluded = prefix_index.sorted_exclusions(index, *past)
        generated, beams, levels = beam_search(
            step, cache, index, num_beams, items.shape[0], excluded, True
        )

        scores = module.item_logits(state, memory, vectors)[:, 0]  # [B, I]
        scores = jax.nn.log_softmax(scores, where=index.is_there if renormalize else None)
        scores = _allowed(scores, index.is_there, data["items"], samples, num_excluded)
        scored, _ = _best(scores, num_beams)
        again = (scored[:, :, None] == generated[:, None]).any(axis=-1)
        candidates = jnp.concatenate([generated, jnp.where(again, -1, scored)], axis=1)
        is_item = candidates >= 0
        candidates = jnp.where(is_item, candidates, 0)  # [B, 2 W]

        states = jnp.repeat(state, candidates.shape[1], axis=1)
        everywhere = memory._replace(sees=jnp.repeat(memory.sees, candidates.shape[1], axis=1))
        logits = module.code_logits(states, tree.codes[candidates], everywhere, tree)
        mean = score_weight * jnp.take_along_axis(scores, candidates, axis=1)
        mean += (1 - score_weight) * item_scores.log_probs(index, logits, candidates)
        mean = jnp.where(is_item, mean, -jnp.inf)
        # A beam search ranks by what is left beside the excluded items, and lacks what it misses.
        alone = jnp.pad(beams, ((0, 0), (0, num_beams)), constant_values=-jnp.inf)
        best, places = jax.lax.top_k(jnp.where(score_weight == 0, alone, mean), num_beams)
        found = jnp.take_along_axis(candidates, places, axis=1)
        return (jnp.where(best > -jnp.inf, found, -1), best), (generated, levels)

    tree = catalogue_tree.build(semantic_ids, level_sizes, ~is_unseen)
    data, index, unseen_index = sharding.replicate(
        mesh,
        (
            {"catalogue": hybrid.Catalogue(content, ~is_unseen, tree)},
            prefix_index.build(semantic_ids),
            prefix_index.build(semantic_ids, is_unseen) if is_unseen.any() else None,
        ),
    )
    search, trace = (
        functools.partial(_jit(find, mesh, result), score_weight=float(score_weight))
        for result in range(2)
    )
    return Searcher(search, trace, data, index, unseen_index, is_unseen)


def _allowed(scores, is_there, all_items, samples: Samples, num_excluded: int) -> jax.Array:
    """Returns scores [B, I], -inf for items of the histories and where not is_there [I]."""
    scores = jnp.where(is_there, scores, -jnp.inf)
    if not num_excluded:
        return scores
    items, mask = histories.gather(all_items, samples.start, samples.target, num_excluded)
    items = jnp.where(mask, items, scores.shape[1])  # which is dropped
    rows = jnp.arange(items.shape[0])[:, None]
    return scores.at[rows, items].set(-jnp.inf, mode="drop")


def _best(scores: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Returns the items [B, W] with the highest scores [B, I], -1 for -inf, and their scores."""
    missing = ((0, 0), (0, max(number - scores.shape[1], 0)))
    scores = jnp.pad(scores, missing, constant_values=-jnp.inf)
    scores, items = jax.lax.top_k(scores, number)
    return jnp.where(scores > -jnp.inf, items, -1), scores


def _jit(find: Callable, mesh: jax.sharding.Mesh, result: int) -> Callable:
    """Returns `find` for one of its results; what only the others need is not computed."""

    @functools.wraps(find)
    def of_one(*args, **kwargs):
        return find(*args, **kwargs)[result]

    return functools.partial(
        jax.jit,
        static_argnames=("num_beams", "num_excluded", "renormalize"),
        out_shardings=sharding.replicated(mesh),
    )(of_one)
