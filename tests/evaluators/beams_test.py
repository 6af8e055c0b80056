"""Beams of two users, worked by hand."""

import numpy as np
import pytest

from genrec_jax.decoding.beam_search import Beams
from genrec_jax.evaluators import beams


def level(codes, parents, probabilities):
    with np.errstate(divide="ignore"):
        scores = np.log(np.array(probabilities, np.float32))
    return Beams(np.array(codes), np.array(parents), scores)


# The first user's search keeps 7, 3 and then 3-1, 7-2; the second's 4, 5 and then 4-0 alone.
LEVELS = [
    level([[7, 3], [4, 5]], [[0, 0], [0, 0]], [[0.5, 0.25], [0.75, 0.125]]),
    level([[1, 2], [0, 9]], [[1, 0], [0, 1]], [[0.25, 0.125], [0.5, 0]]),
]


def test_prefixes_follow_the_parents():
    first, second = beams.prefixes(LEVELS)
    assert first.tolist() == [[[7], [3]], [[4], [5]]]
    assert second.tolist() == [[[3, 1], [7, 2]], [[4, 0], [5, 9]]]


def test_the_true_prefix_is_kept_or_lost():
    first, second = beams.report(LEVELS, np.array([[7, 2], [4, 8]]))
    assert first == {"kept": 1.0, "first": 1.0, "mass": pytest.approx((0.75 + 0.875) / 2)}
    assert second == {"kept": 0.5, "first": 0.0, "mass": pytest.approx((0.375 + 0.5) / 2)}


def test_what_has_no_probability_is_no_beam():
    _, second = beams.report(LEVELS, np.array([[3, 1], [5, 9]]))
    assert (second["kept"], second["first"]) == (0.5, 0.5)
