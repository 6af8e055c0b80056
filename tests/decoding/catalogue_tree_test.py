"""A tree worked by hand."""

import numpy as np

from genrec_jax.decoding import catalogue_tree

IDS = np.array([[1, 0, 2], [0, 2, 0], [1, 0, 1], [1, 2, 0]])


def test_a_hand_worked_case():
    tree = catalogue_tree.build(IDS, (2, 3, 3), np.ones(4, bool))
    np.testing.assert_array_equal(tree.codes, IDS)
    # Level 1 has the nodes 0 and 1; level 2 those of (0, 2), (1, 0) and (1, 2).
    assert tree.parents.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 1], [0, 1, 2]]
    siblings = [[np.flatnonzero(node).tolist() for node in level] for level in tree.siblings]
    assert siblings == [[[0, 1]], [[2], [0, 2]], [[0], [1, 2], [0]]]
    np.testing.assert_allclose(
        tree.shares, [[1 / 3, 1 / 2, 1], [1, 1, 1], [1 / 3, 1 / 2, 1], [1 / 3, 1, 1]]
    )


def test_an_item_that_training_lacks_is_no_sibling():
    tree = catalogue_tree.build(IDS, (2, 3, 3), np.array([True, True, True, False]))
    siblings = [[np.flatnonzero(node).tolist() for node in level] for level in tree.siblings]
    assert siblings == [[[0, 1]], [[2], [0]], [[0], [1, 2], []]]
