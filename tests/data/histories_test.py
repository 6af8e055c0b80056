"""Histories cut from the flat array."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize(
    "length, max_history, expected",
    [
        (2, 4, {(0, 1): 1}),
        (3, 4, {(0, 2): 1}),
        # Two starts; from each the target is two, three or four places on, or the last.
        (4, 4, {(0, 2): 1 / 6, (0, 3): 2 / 6, (1, 3): 3 / 6}),
        (5, 2, {(0, 2): 1 / 3, (1, 3): 1 / 3, (2, 4): 1 / 3}),
    ],
)
def test_parts_of_histories_are_drawn_as_stated(length, max_history, expected):
    draws, first = 6000, 10
    start, target = histories.draw_subsequences(
        jax.random.key(0), jnp.full(draws, first), jnp.full(draws, first + length - 1), max_history
    )
    counts = collections.Counter(
        zip((start - first).tolist(), (target - first).tolist(), strict=True)
    )
    assert counts.keys() == expected.keys()
    for part, share in expected.items():
        deviation = (share * (1 - share) / draws) ** 0.5
        assert abs(counts[part] / draws - share) <= 4 * deviation


def test_rows_of_several_histories():
    items = jnp.arange(100, 120)
    start = jnp.array([[0, 4, 0], [10, 0, 0]])
    target = jnp.array([[3, 5, 9], [18, 0, 0]])
    is_there = jnp.array([[True, True, False], [True, False, False]])
    found, segments = histories.gather_rows(items, start, target, is_there, 5)
    np.testing.assert_array_equal(segments, [[0, 0, 0, 1, 3], [0, 0, 0, 0, 0]])
    assert found[0, :4].tolist() == [100, 101, 102, 104]
    assert found[1].tolist() == [113, 114, 115, 116, 117]  # the last five
