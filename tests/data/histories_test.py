"""Histories cut from the flat array."""

import jax.numpy as jnp
import numpy as np

from genrec_jax.data import histories

ITEMS = jnp.array([10, 11, 12, 13, 20, 21])


def gather(start, target, length):
    return histories.gather(ITEMS, jnp.array([start]), jnp.array([target]), length)


def test_short_histories_are_padded_at_the_end():
    items, mask = gather(4, 5, 3)
    np.testing.assert_array_equal(items, [[20, 0, 0]])
    np.testing.assert_array_equal(mask, [[True, False, False]])


def test_of_long_histories_the_last_items_are_kept():
    items, mask = gather(0, 4, 3)
    np.testing.assert_array_equal(items, [[11, 12, 13]])
    assert mask.all()


def test_an_empty_history_reads_nothing():
    items, mask = gather(4, 4, 2)
    np.testing.assert_array_equal(items, [[0, 0]])
    assert not mask.any()
