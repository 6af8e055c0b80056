"""Splits of hand-made histories."""

import numpy as np
import pytest

from genrec_jax.data import splits
from genrec_jax.errors import UserError

OFFSETS = np.array([0, 5, 7, 7, 10])
TIMES = np.array([1, 2, 5, 8, 9, 6, 8, 3, 7, 7])


def test_leave_one_out():
    parts = splits.leave_one_out(OFFSETS)
    np.testing.assert_array_equal(parts.train_ends, [3, 7, 7, 8])
    np.testing.assert_array_equal(parts.targets["valid"], [3, -1, -1, 8])
    np.testing.assert_array_equal(parts.targets["test"], [4, -1, -1, 9])


def test_two_times_cut_all_histories():
    parts = splits.temporal(OFFSETS, TIMES, valid_share=0.4, test_share=0.3)
    # Sorted times are 1 2 3 5 6 7 7 8 8 9: the last three events, and the four before them.
    assert (parts.facts["data/valid_from"], parts.facts["data/test_from"]) == (5, 8)
    np.testing.assert_array_equal(parts.train_ends, [2, 5, 7, 8])
    # The second user has nothing before 5, and the third nothing at all.
    np.testing.assert_array_equal(parts.targets["valid"], [2, -1, -1, 8])
    np.testing.assert_array_equal(parts.targets["test"], [3, 6, -1, -1])
    assert parts.facts["data/num_new_users_in_test"] == 0


def test_who_comes_in_the_test_period_is_counted_and_not_asked():
    times = np.array([1, 2, 3, 4, 9])
    parts = splits.temporal(np.array([0, 4, 5]), times, valid_share=0.2, test_share=0.2)
    np.testing.assert_array_equal(parts.targets["test"], [-1, -1])
    assert parts.facts["data/num_new_users_in_test"] == 1


def test_an_unknown_time_is_as_late_as_the_next_known_one():
    times = np.array([1, -1, 6, -1, 2, 4, -1, 8])
    parts = splits.temporal(np.array([0, 4, 8]), times, valid_share=0.3, test_share=0.2)
    # The first user's second event may be as late as 6, so it is not trained on; its fourth may
    # be at any time, so it is nothing.
    assert (parts.facts["data/valid_from"], parts.facts["data/test_from"]) == (4, 8)
    np.testing.assert_array_equal(parts.train_ends, [1, 5])
    np.testing.assert_array_equal(parts.targets["valid"], [1, 5])
    np.testing.assert_array_equal(parts.targets["test"], [-1, 6])
    assert parts.facts["data/num_unknown_times"] == 3


def test_nothing_that_is_trained_on_is_later_than_a_target():
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 9, 200))])
    times = np.concatenate([np.sort(rng.integers(0, 50, n)) for n in np.diff(offsets)])
    parts = splits.temporal(offsets, times, valid_share=0.2, test_share=0.1)
    trained = np.concatenate(
        [times[first:end] for first, end in zip(offsets[:-1], parts.train_ends, strict=True)]
    )
    valid, test = (targets[targets >= 0] for targets in parts.targets.values())
    assert len(valid) > 50 and len(test) > 50
    assert trained.max() < times[valid].min() <= times[valid].max() < times[test].min()
    share = len(trained) / len(times)
    assert share == (times < parts.facts["data/valid_from"]).mean() and 0.65 < share <= 0.7


@pytest.mark.parametrize("times", [None, np.full(10, -1)])
def test_without_times_there_is_no_temporal_split(times):
    with pytest.raises(UserError, match="split=temporal needs times"):
        splits.temporal(OFFSETS, times, 0.1, 0.1)


def test_times_that_go_back_are_refused():
    times = TIMES.copy()
    times[6] = 5
    with pytest.raises(UserError, match="the times of user number 2 go back"):
        splits.temporal(OFFSETS, times, 0.1, 0.1)
