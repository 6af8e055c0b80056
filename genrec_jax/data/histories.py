"""Histories gathered on the device from the flat array of all interactions."""

import jax
import jax.numpy as jnp


def gather(
    items: jax.Array, start: jax.Array, target: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
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
    first = jnp.maximum(start, target - length)  # [B]
    places = first[:, None] + jnp.arange(length)  # [B, L]
    mask = places < target[:, None]
    return jnp.where(mask, items[jnp.where(mask, places, 0)], 0), mask


def gather_rows(
    items: jax.Array, start: jax.Array, target: jax.Array, is_there: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
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
    most = start.shape[1]
    sizes = jnp.where(is_there, jnp.minimum(target - start, length), 0)
    ends = jnp.cumsum(sizes, axis=1)  # [R, M]
    places = jnp.arange(length)
    segments = jnp.sum(places[:, None] >= ends[:, None], axis=-1, dtype=jnp.int32)  # [R, L]
    shifts = jnp.take_along_axis(target - ends, jnp.minimum(segments, most - 1), axis=1)
    return items[jnp.where(segments < most, shifts + places, 0)], segments


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
