"""The tree of prefixes, drawn by hand.

Items, sorted by ID:   2: (0, 1)   0: (0, 3)   3: (2, 0)   1: (2, 1)   4: (2, 2)
"""

import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import prefix_index

IDS = np.array([[0, 3], [2, 1], [0, 1], [2, 0], [2, 2]])
SCORES = jnp.array([0.0, 10.0, 20.0, 30.0])  # of the codes 0 to 3, at both levels


@pytest.fixture(params=["tables", "lists"])
def is_dense(request, monkeypatch):
    if request.param == "lists":
        monkeypatch.setattr(prefix_index, "_LARGEST_SPARSITY", 0)
        monkeypatch.setattr(prefix_index, "_SMALL", 0)
    return request.param == "tables"


INDEX = prefix_index.build(IDS)


def test_sorted_items_and_their_ranks():
    np.testing.assert_array_equal(INDEX.items, [2, 0, 3, 1, 4])
    np.testing.assert_array_equal(INDEX.rank, [1, 3, 0, 2, 4])


def test_candidates_of_the_root_and_of_its_children(is_dense):
    index = prefix_index.build(IDS)
    assert index.widest == ((3, 4) if is_dense else (2, 3))
    assert [table is not None for table in index.tables] == [is_dense, is_dense]
    child, is_valid, scores = prefix_index.candidates(
        index, 0, jnp.array([[0]]), SCORES[None, None]
    )
    np.testing.assert_array_equal(child[is_valid], [0, 1])
    np.testing.assert_array_equal(scores[is_valid], [0, 20])
    scores = jnp.stack([SCORES, SCORES + 1])[None]
    child, is_valid, scores = prefix_index.candidates(index, 1, jnp.array([[0, 1]]), scores)
    np.testing.assert_array_equal(is_valid.sum(axis=-1), [[2, 3]])
    np.testing.assert_array_equal(scores[is_valid], [10, 30, 1, 11, 21])
    np.testing.assert_array_equal(index.items[child[is_valid]], [2, 0, 3, 1, 4])
    np.testing.assert_array_equal(index.child_code[1][child[is_valid]], [1, 3, 0, 1, 2])


def test_a_large_level_that_is_nearly_empty_has_no_table():
    rng = np.random.default_rng(0)
    ids = np.unique(rng.integers(300, size=(2_000, 2)), axis=0)
    assert [table is not None for table in prefix_index.build(ids).tables] == [True, False]


def test_a_level_whose_nodes_have_few_children_has_no_table():
    ids = np.array([[0, 0], [0, 7], [1, 0], [1, 7]])
    assert [table is not None for table in prefix_index.build(ids).tables] == [True, False]


def test_items_left_below_a_prefix():
    items, mask = jnp.array([[1, 4, 1, 3]]), jnp.array([[True, True, True, False]])
    excluded = prefix_index.sorted_exclusions(INDEX, items, mask)
    np.testing.assert_array_equal(excluded, [[3, 4, 5, 5]])  # ranks once each, then nowhere
    left = prefix_index.num_left(INDEX, 0, jnp.array([[[0, 1]]]), excluded)
    np.testing.assert_array_equal(left, [[[2, 1]]])
    left = prefix_index.num_left(INDEX, 1, jnp.array([[[2, 3, 4]]]), excluded)
    np.testing.assert_array_equal(left, [[[1, 0, 0]]])


def test_an_index_of_some_of_the_items(is_dense):
    some = prefix_index.build(IDS, np.array([False, True, True, False, True]))
    np.testing.assert_array_equal(some.items, [2, 1, 4])
    np.testing.assert_array_equal(some.rank, [3, 1, 0, 3, 2])
    np.testing.assert_array_equal(some.is_there, [False, True, True, False, True])
    assert some.widest == ((3, 3) if is_dense else (2, 2))
    scores = jnp.stack([SCORES, SCORES])[None]
    child, is_valid, scores = prefix_index.candidates(some, 1, jnp.array([[0, 1]]), scores)
    np.testing.assert_array_equal(scores[is_valid], [10, 10, 20])
    np.testing.assert_array_equal(some.items[child[is_valid]], [2, 1, 4])
    items, mask = jnp.array([[0, 4, 0, 3]]), jnp.ones((1, 4), bool)  # one of them is there
    excluded = prefix_index.sorted_exclusions(some, items, mask)
    np.testing.assert_array_equal(excluded, [[2, 3, 3, 3]])
    left = prefix_index.num_left(some, 0, jnp.array([[[0, 1]]]), excluded)
    np.testing.assert_array_equal(left, [[[1, 1]]])


def test_two_items_with_one_id_are_refused():
    with pytest.raises(ValueError, match="2 items have only 1 distinct"):
        prefix_index.build(np.array([[1, 1], [1, 1]]))
