"""Ranking metrics on lists that a reader can check."""

import numpy as np
import pytest

from genrec_jax import metrics

LISTS = np.array([[7, 3, 5], [1, 2, 9], [4, 4, 8]])
RANK = np.array([1, metrics.MISS, 0])


def test_rank_is_the_first_hit():
    np.testing.assert_array_equal(metrics.hit_rank(LISTS, np.array([3, 0, 4])), RANK)


def test_ids_must_match_in_full():
    lists = np.array([[[1, 2], [1, 3]]])
    np.testing.assert_array_equal(metrics.hit_rank(lists, np.array([[1, 3]])), [1])
    np.testing.assert_array_equal(metrics.hit_rank(lists, np.array([[2, 3]])), [metrics.MISS])


def test_values_at_each_cutoff():
    np.testing.assert_array_equal(metrics.recall_at_k(RANK, 1), [0, 0, 1])
    np.testing.assert_array_equal(metrics.recall_at_k(RANK, 2), [1, 0, 1])
    np.testing.assert_array_equal(metrics.ndcg_at_k(RANK, 1), [0, 0, 1])
    np.testing.assert_array_equal(metrics.mrr_at_k(RANK, 1), [0, 0, 1])
    np.testing.assert_allclose(metrics.ndcg_at_k(RANK, 2), [1 / np.log2(3), 0, 1])
    np.testing.assert_allclose(metrics.mrr_at_k(RANK, 2), [0.5, 0, 1])


def test_means():
    values = metrics.ranking(RANK, (1, 5))
    assert values["recall@1"] == pytest.approx(1 / 3)
    assert values["recall@5"] == pytest.approx(2 / 3)
    assert values["mrr@5"] == pytest.approx(0.5)
    assert values["ndcg@5"] == pytest.approx((1 + 1 / np.log2(3)) / 3)


def test_a_bootstrap_interval():
    rng = np.random.default_rng(0)
    assert metrics.bootstrap_interval(np.full(7, 0.25), 10, rng) == (0.25, 0.25)
    # Of many examples it is that of the normal distribution: 1.96 standard errors to either side.
    values = np.repeat([0.0, 1.0], [3_000, 1_000])
    low, high = metrics.bootstrap_interval(values, 4_000, rng)
    error = 1.96 * np.sqrt(0.25 * 0.75 / 4_000)
    assert (low, high) == pytest.approx((0.25 - error, 0.25 + error), abs=0.1 * error)
