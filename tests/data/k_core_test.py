"""Cores worked by hand."""

import numpy as np
import pytest

from genrec_jax.data.k_core import k_core

# Users 0 and 1 share items 0 and 1; user 1 and user 2 share item 2; user 2 alone has item 3.
EVENTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 2], [2, 3]])


@pytest.mark.parametrize(
    "k, expected",
    [
        (0, [1, 1, 1, 1, 1, 1, 1]),
        (1, [1, 1, 1, 1, 1, 1, 1]),
        # Item 3 goes, so user 2 is left with one event and goes, so item 2 goes too.
        (2, [1, 1, 1, 1, 0, 0, 0]),
        (3, [0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_what_is_removed_takes_more_with_it(k, expected):
    assert k_core(*EVENTS.T, k).tolist() == [bool(is_left) for is_left in expected]


def test_repeats_are_events():
    users, items = np.array([0, 0, 1]), np.array([5, 5, 5])
    assert k_core(users, items, 2).tolist() == [True, True, False]


def test_the_order_of_events_is_nothing():
    rng = np.random.default_rng(0)
    users, items = rng.integers(40, size=300), rng.integers(70, size=300)
    is_left = k_core(users, items, 4)
    assert 0 < is_left.sum() < 300
    for owners in (users, items):
        assert np.unique(owners[is_left], return_counts=True)[1].min() >= 4
    order = rng.permutation(300)
    assert (k_core(users[order], items[order], 4) == is_left[order]).all()


def test_no_events():
    assert k_core(np.array([], int), np.array([], int), 2).tolist() == []
