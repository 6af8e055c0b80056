"""Histories gathered from the flat array of all interactions, on the device or on the host.

Given JAX arrays these functions compute by JAX, given NumPy's by NumPy. Axes before the last ones
named here may be any.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax.data.corpus import Samples

Array = TypeVar("Array", jax.Array, np.ndarray)


def gather(items: Array, start: Array, target: Array, length: int) -> tuple[Array, Array]:
    """Returns the last `length` items of each history, oldest first, padded at the end.

    Args:
        items: [N] int32, all users' items one after the other.
        start: [B] int32 places where the histories begin.
        target: [B] int32 places just after the histories.
        length: L, the most items to return.

    Returns:
        history: [B, L] int32 items; 0 where there is none.
        mask: [B, L] bool, whether there is one.
    """
    xp = items.__array_namespace__()
    first = xp.maximum(start, target - length)  # [B]
    places = first[..., None] + xp.arange(length)  # [B, L]
    mask = places < target[..., None]
    return xp.where(mask, items[xp.where(mask, places, 0)], 0), mask


def alone(items: np.ndarray, samples: Samples, length: int) -> tuple[np.ndarray, Samples]:
    """Returns the last `length` items of each of B histories in an array of their own, on the host.

    Returns:
        items: [B * length] int32.
        samples: the same histories, in it.
    """
    history, mask = gather(items, samples.start, samples.target, length)
    start = length * np.arange(len(history), dtype=np.int32)
    return history.ravel(), Samples(samples.user, start, start + mask.sum(axis=1, dtype=np.int32))


def gather_rows(
    items: Array, start: Array, target: Array, is_there: Array, length: int
) -> tuple[Array, Array]:
    """Returns rows in which the last items of several histories follow each other.

    Args:
        items: [N] int32, all users' items one after the other.
        start: [R, M] int32 places where each row's histories begin.
        target: [R, M] int32 places just after them.
        is_there: [R, M] bool, whether there is such a history.
        length: L; a history's last L items count, and those of a row are L at most.

    Returns:
        history: [R, L] int32 items; anything where there is none.
        segments: [R, L] int32 which of its row's histories each item is of; M where there is none.
    """
    xp = items.__array_namespace__()
    most = start.shape[-1]
    sizes = xp.where(is_there, xp.minimum(target - start, length), 0)
    ends = xp.cumsum(sizes, axis=-1)  # [R, M]
    places = xp.arange(length)
    segments = xp.sum(places[:, None] >= ends[..., None, :], axis=-1, dtype=xp.int32)  # [R, L]
    shifts = xp.take_along_axis(target - ends, xp.minimum(segments, most - 1), axis=-1)
    return items[xp.where(segments < most, shifts + places, 0)], segments


def draw_subsequences(
    rng: jax.Array, start: jax.Array, last: jax.Array, max_history: int
) -> tuple[jax.Array, jax.Array]:
    """Draws a part of each history, as RQ-VAE-Recommender does: start [B] and target [B].

    The start is uniform over the history but its last two items; the target is uniform over the
    places from the second after the start to `max_history` after it, or the last item where that
    is beyond it. So ends of histories are targets more often than with every prefix.

    Args:
        rng: key.
        start: [B] int32 places where the histories begin.
        last: [B] int32 places of their last items, each after its start.
        max_history: the most items before the target.
    """
    start_rng, target_rng = jax.random.split(rng)
    start = jax.random.randint(start_rng, start.shape, start, jnp.maximum(last - 1, start + 1))
    target = start + jax.random.randint(target_rng, start.shape, 2, max_history + 1)
    return start, jnp.minimum(target, last)
