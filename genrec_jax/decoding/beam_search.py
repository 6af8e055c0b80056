"""Beam search over the semantic IDs of a catalogue: deterministic, and every result an item.

A beam is a prefix that at least one allowed item has, so each level's candidates are the children
of the beams in the prefix index and nothing invalid is ever scored. All IDs have the same length:
one unrolled step a level, one top_k each. The search knows no model.

B batch   W beams   K codebook size   M candidates of a beam
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax.decoding import prefix_index
from genrec_jax.decoding.prefix_index import PrefixIndex

_GROUP = 32  # values of a group

StepFn = Callable[[int, jax.Array | None, Any], tuple[jax.Array, Any]]


class Beams(NamedTuple):
    """The prefixes that a level of a search keeps, best first; each field is [B, W]."""

    codes: jax.Array  # int32, the last one of each prefix
    parents: jax.Array  # int32, which beam of the level before each one continues
    scores: jax.Array  # float32 log-probabilities; -inf where there is no prefix


def beam_search(
    step: StepFn,
    cache: Any,
    index: PrefixIndex,
    num_beams: int,
    batch_size: int,
    excluded: jax.Array | None = None,
    renormalize: bool = False,
) -> tuple[jax.Array, jax.Array, list[Beams]]:
    """Returns the items with the likeliest IDs that the beams reach, best first.

    With as many beams as items the search is exhaustive.

    Args:
        step: `step(level, codes, cache)` returns log-probabilities [B, W, K] of the level's codes
            for each beam, and the new cache. `codes` [B, W] are those chosen at the level before,
            None at level 0, where W is 1.
        cache: what the beams remember; the leaves are [B, W = 1, ...] and follow the beams.
        index: the catalogue's prefixes.
        num_beams: W.
        batch_size: B.
        excluded: [B, X] from `prefix_index.sorted_exclusions`: items that take no beam.
        renormalize: score an item by its probability given that it is one of those allowed: each
            code's is taken among the codes that lead to one. A prefix that is left without choice
            then costs nothing, however unlikely the model thinks it.

    Returns:
        items: [B, W] int32; -1 where fewer than W items are allowed.
        scores: [B, W] float32 log-probabilities; -inf beside -1.
        levels: Q beams, as many of them as there are candidates, at most W.
    """
    nodes = jnp.zeros((batch_size, 1), jnp.int32)
    scores = jnp.zeros((batch_size, 1), jnp.float32)
    codes, levels = None, []
    for level in range(index.num_levels):
        log_probs, cache = step(level, codes, cache)  # [B, W, K]
        found = prefix_index.candidates(index, level, nodes, log_probs)
        child, is_valid, log_probs = found  # [B, W, M]
        if excluded is not None:
            is_valid &= prefix_index.num_left(index, level, child, excluded) > 0
        if renormalize:
            log_probs = jax.nn.log_softmax(log_probs, where=is_valid)
        candidates = scores[..., None] + log_probs
        candidates = _merge_beams(jnp.where(is_valid, candidates, -jnp.inf))  # [B, W * M]
        scores, best = top_k(candidates, min(num_beams, candidates.shape[1]))
        nodes = _gather(_merge_beams(child), best)
        codes = index.child_code[level][nodes]
        parents = best // index.widest[level]
        cache = jax.tree.map(lambda leaf, parents=parents: _gather(leaf, parents), cache)
        levels.append(Beams(codes, parents, scores))
    items = jnp.where(scores > -jnp.inf, index.items[nodes], -1)
    missing = ((0, 0), (0, num_beams - items.shape[1]))
    return (
        jnp.pad(items, missing, constant_values=-1),
        jnp.pad(scores, missing, constant_values=-jnp.inf),
        levels,
    )


def top_k(x: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns what `jax.lax.top_k` does, the k largest of each row of x [B, N] and their places.

    In two steps, as GPUs sort whole rows: the k largest are in the k groups whose maxima are the
    largest. Equal values come in the order of their places, as groups do.
    """
    batch, length = x.shape
    num_groups = -(-length // _GROUP)
    if num_groups <= 2 * k:
        return jax.lax.top_k(x, k)
    padded = jnp.pad(x, ((0, 0), (0, num_groups * _GROUP - length)), constant_values=-jnp.inf)
    groups = padded.reshape(batch, num_groups, _GROUP)
    _, chosen = jax.lax.top_k(groups.max(axis=-1), k)
    chosen = jnp.sort(chosen, axis=-1)  # [B, k]
    largest, best = jax.lax.top_k(_merge_beams(_gather(groups, chosen)), k)
    places = jnp.take_along_axis(chosen, best // _GROUP, axis=1) * _GROUP + best % _GROUP
    return largest, jnp.minimum(places, length - 1)  # where nothing but -inf is left


def _merge_beams(x: jax.Array) -> jax.Array:
    """[B, W, M] -> [B, W * M]."""
    return x.reshape(x.shape[0], -1)  # not `len`: when exported, B is a symbol


def _gather(leaf: jax.Array, places: jax.Array) -> jax.Array:
    """Returns leaf[b, places[b, w]] for leaf [B, W, ...] and places [B, V]: [B, V, ...]."""
    return jax.vmap(lambda row, chosen: row[chosen])(leaf, places)
