"""Baselines on a corpus that a reader can check.

Training parts: a has 0 1, b has 0 1, c has 0 2; then each has a validation and a test item.
"""

import numpy as np
import pytest

from genrec_jax.data import corpus as corpus_lib
from genrec_jax.evaluators import baselines
from tests.data.corpus_test import make

CORPUS = make([[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 4]], num_items=5)
SAMPLES = corpus_lib.held_out_samples(CORPUS, "test")  # histories 0 1 2, 0 1 3, 0 2 1


def test_popularity_ranks_by_training_counts_and_ties_by_item():
    scorer = baselines.popularity(CORPUS)
    np.testing.assert_array_equal(scorer(SAMPLES), [[3, 2, 1, 0, 0]] * 3)
    items, _ = baselines.recommend(scorer, CORPUS, SAMPLES, 4, exclude_history=False)
    np.testing.assert_array_equal(items, [[0, 1, 2, 3]] * 3)


def test_the_history_can_be_excluded():
    scorer = baselines.popularity(CORPUS)
    items, _ = baselines.recommend(scorer, CORPUS, SAMPLES, 4, exclude_history=True)
    np.testing.assert_array_equal(items, [[3, 4, -1, -1], [2, 4, -1, -1], [3, 4, -1, -1]])


def test_item_knn_sums_cosines_over_the_history():
    scores = baselines.item_knn(CORPUS)(SAMPLES)
    # Users of 0: a b c; of 1: a b; of 2: c; of 3 and 4: none in training.
    s01, s02 = 2 / np.sqrt(3 * 2), 1 / np.sqrt(3 * 1)
    np.testing.assert_allclose(scores[0], [s01 + s02, s01, s02, 0, 0], atol=1e-8)
    np.testing.assert_allclose(scores[1], [s01, s01, s02, 0, 0], atol=1e-8)


def test_item_knn_breaks_ties_by_popularity():
    scores = baselines.item_knn(CORPUS)(SAMPLES)
    # The second user's 0 and 1 have the same similarity, and 0 is the more popular.
    assert scores[1, 0] > scores[1, 1] and scores[0, 3] == scores[0, 4] == 0


def test_item_knn_is_left_out_where_it_would_take_too_much(monkeypatch, caplog):
    expected = baselines.item_knn(CORPUS)(SAMPLES)
    monkeypatch.setattr(baselines, "_MOST_PAIRS", 3 * 2**2)  # three histories of two items
    np.testing.assert_array_equal(baselines.scorer("itemknn", CORPUS)(SAMPLES), expected)
    assert caplog.text == ""
    monkeypatch.setattr(baselines, "_MOST_PAIRS", 3 * 2**2 - 1)
    assert baselines.scorer("itemknn", CORPUS) is None
    assert "itemknn is left out: the training histories have 12 pairs of items" in caplog.text
    np.testing.assert_array_equal(
        baselines.scorer("popularity", CORPUS)(SAMPLES), [[3, 2, 1, 0, 0]] * 3
    )


def test_item_knn_equals_a_dense_computation():
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, 30, rng.integers(3, 12)).tolist() for _ in range(60)]
    corpus = make(histories, num_items=30)
    samples = corpus_lib.held_out_samples(corpus, "test")
    has = np.zeros((60, 30))
    for user, history in enumerate(histories):
        has[user, history[:-2]] = 1
    together = has.T @ has
    norms = np.sqrt(np.maximum(np.diag(together), 1))
    similarity = together / norms[:, None] / norms
    np.fill_diagonal(similarity, 0)
    read = np.stack([np.bincount(history[:-1], minlength=30) for history in histories])
    scores = baselines.item_knn(corpus)(samples)
    np.testing.assert_allclose(scores, read @ similarity, atol=1e-8)


def test_chunks_change_nothing(monkeypatch):
    scorer = baselines.item_knn(CORPUS)
    whole, _ = baselines.recommend(scorer, CORPUS, SAMPLES, 3, exclude_history=True)
    monkeypatch.setattr(baselines, "_SCORES_AT_ONCE", 5)  # one user at a time
    parts, _ = baselines.recommend(scorer, CORPUS, SAMPLES, 3, exclude_history=True)
    np.testing.assert_array_equal(parts, whole)
    assert whole.dtype == np.int32


def test_ties_at_the_end_of_the_list_go_to_the_lower_item():
    corpus = make([[0, 1, 2, 3]] * 3, num_items=500)
    samples = corpus_lib.held_out_samples(corpus, "test")
    items, _ = baselines.recommend(
        baselines.popularity(corpus), corpus, samples, 10, exclude_history=False
    )
    np.testing.assert_array_equal(items, [range(10)] * 3)


@pytest.mark.parametrize("wanted", [5, 9])
def test_no_more_items_than_there_are(wanted):
    scorer = baselines.popularity(CORPUS)
    items, _ = baselines.recommend(scorer, CORPUS, SAMPLES, wanted, exclude_history=False)
    np.testing.assert_array_equal(items, [[0, 1, 2, 3, 4]] * 3)
