"""Every item gets an ID of its own."""

import numpy as np
import pytest

from genrec_jax.errors import UserError
from genrec_jax.quantizers import collisions


def test_popular_items_come_first_and_ties_keep_the_catalogues_order():
    ids = np.array([[1, 2], [0, 0], [1, 2], [1, 2], [1, 2]])
    unique = collisions.append_extra_code(ids, np.array([5, 1, 9, 5, 0]), size=4)
    np.testing.assert_array_equal(unique[:, :2], ids)
    np.testing.assert_array_equal(unique[:, 2], [1, 0, 0, 2, 3])
    assert unique.dtype == np.int32


def test_a_group_that_is_too_large_is_refused():
    with pytest.raises(UserError, match=r"3 items share one .* tells 2 apart.*extra_code_size"):
        collisions.append_extra_code(np.zeros((3, 2), int), np.zeros(3), size=2)


def test_size_zero_takes_any_group():
    unique = collisions.append_extra_code(np.zeros((3, 2), int), np.zeros(3), size=0)
    np.testing.assert_array_equal(unique[:, 2], [0, 1, 2])


def test_no_two_of_many_items_are_alike():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, size=(3000, 3))
    unique = collisions.append_extra_code(ids, rng.integers(0, 9, size=3000), size=3000)
    assert len(np.unique(unique, axis=0)) == 3000
