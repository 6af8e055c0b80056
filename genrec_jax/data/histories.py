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
