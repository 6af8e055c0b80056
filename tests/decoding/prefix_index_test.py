"""The tree of prefixes, drawn by hand.

Items, sorted by ID:   2: (0, 1)   0: (0, 3)   3: (2, 0)   1: (2, 1)   4: (2, 2)
"""

import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import prefix_index

IDS = np.array([[0, 3], [2, 1], [0, 1], [2, 0], [2, 2]])
INDEX = prefix_index.build(IDS)


def test_sorted_items_and_their_ranks():
    np.testing.assert_array_equal(INDEX.items, [2, 0, 3, 1, 4])
    np.testing.assert_array_equal(INDEX.rank, [1, 3, 0, 2, 4])
    assert INDEX.widest == (2, 3)


def test_children_of_the_root_and_of_its_children():
    child, code, is_valid = prefix_index.children(INDEX, 0, jnp.array([[0]]))
    np.testing.assert_array_equal(child, [[[0, 1]]])
    np.testing.assert_array_equal(code, [[[0, 2]]])
    assert is_valid.all()
    child, code, is_valid = prefix_index.children(INDEX, 1, jnp.array([[0, 1]]))
    np.testing.assert_array_equal(is_valid, [[[True, True, False], [True, True, True]]])
    np.testing.assert_array_equal(code[is_valid], [1, 3, 0, 1, 2])
    np.testing.assert_array_equal(INDEX.items[child[is_valid]], [2, 0, 3, 1, 4])


def test_items_left_below_a_prefix():
    items, mask = jnp.array([[1, 4, 1, 3]]), jnp.array([[True, True, True, False]])
    excluded = prefix_index.sorted_exclusions(INDEX, items, mask)
    np.testing.assert_array_equal(excluded, [[3, 4, 5, 5]])  # ranks once each, then nowhere
    left = prefix_index.num_left(INDEX, 0, jnp.array([[[0, 1]]]), excluded)
    np.testing.assert_array_equal(left, [[[2, 1]]])
    left = prefix_index.num_left(INDEX, 1, jnp.array([[[2, 3, 4]]]), excluded)
    np.testing.assert_array_equal(left, [[[1, 0, 0]]])


def test_an_index_of_some_of_the_items():
    some = prefix_index.build(IDS, np.array([False, True, True, False, True]))
    np.testing.assert_array_equal(some.items, [2, 1, 4])
    np.testing.assert_array_equal(some.rank, [3, 1, 0, 3, 2])
    np.testing.assert_array_equal(some.is_there, [False, True, True, False, True])
    assert some.widest == (2, 2)
    child, code, is_valid = prefix_index.children(some, 1, jnp.array([[0, 1]]))
    np.testing.assert_array_equal(code[is_valid], [1, 1, 2])
    np.testing.assert_array_equal(some.items[child[is_valid]], [2, 1, 4])
    items, mask = jnp.array([[0, 4, 0, 3]]), jnp.ones((1, 4), bool)  # one of them is there
    excluded = prefix_index.sorted_exclusions(some, items, mask)
    np.testing.assert_array_equal(excluded, [[2, 3, 3, 3]])
    left = prefix_index.num_left(some, 0, jnp.array([[[0, 1]]]), excluded)
    np.testing.assert_array_equal(left, [[[1, 1]]])


def test_two_items_with_one_id_are_refused():
    with pytest.raises(ValueError, match="2 items have only 1 distinct"):
        prefix_index.build(np.array([[1, 1], [1, 1]]))
