"""Losses that end a run, are left out, or are told of."""

import numpy as np
import pytest

from genrec_jax.errors import UserError
from genrec_jax.loss_watch import LossWatch


def losses(*values):
    return np.array(values, np.float32)


def test_the_first_that_is_not_finite_is_named():
    watch = LossWatch("test", 0)
    assert watch.see(1, losses(2.0, 1.0), 0) == 0
    with pytest.raises(UserError, match=r"test: the loss or its gradient is not finite at step 4:"):
        watch.see(3, losses(1.0, np.inf, np.nan), 0)


def test_so_many_in_a_row_may_be_left_out(caplog):
    watch = LossWatch("test", 2)
    assert watch.see(1, losses(np.nan, 1.0, np.nan), 0) == 1
    assert caplog.messages == [
        "test: left out 2 of 3 updates, which are not finite, the first at step 1"
    ]
    assert watch.see(4, losses(np.inf, 1.0), 1) == 0
    assert watch.see(6, losses(1.0, np.nan), 0) == 1
    assert watch.see(8, losses(np.nan), 1) == 2
    with pytest.raises(UserError, match=r"is not finite at the 3 steps up to 9: lower"):
        watch.see(9, losses(np.nan, 1.0), 2)


def test_a_loss_above_three_times_the_median_is_told(caplog):
    watch = LossWatch("test", 1)
    for step in range(1, 9, 2):
        watch.see(step, losses(2.0, 30.0 if step == 5 else 1.0), 0)  # four dispatches: too early
    watch.see(9, losses(1.0, 2.0), 0)
    assert caplog.messages == []
    watch.see(11, losses(1.5, 4.4, np.nan), 0)
    assert caplog.messages == [
        "test: left out 1 of 3 updates, which are not finite, the first at step 13"
    ]
    caplog.clear()
    watch.see(14, losses(1.5, 4.8, 1.0), 0)  # the medians are 1.5 (16 once), and one 2.95
    assert caplog.messages == [
        "test: the loss is 4.8 at step 15, 3.2 times the median of the steps before"
    ]


def test_losses_of_long_ago_do_not_count(caplog):
    watch = LossWatch("test", 0)
    for step in range(1, 21):
        watch.see(step, losses(100.0), 0)
    for step in range(21, 36):
        watch.see(step, losses(1.0), 0)
    watch.see(36, losses(10.0), 0)
    assert len(caplog.messages) == 1 and "10 times the median" in caplog.messages[0]
