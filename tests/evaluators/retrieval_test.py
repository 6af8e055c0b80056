"""Recommendations for all users, whatever the batch."""

import jax
import numpy as np
import pytest

from genrec_jax import sharding
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.evaluators import retrieval, searchers
from genrec_jax.models import encoder_decoder
from tests.data.corpus_test import make

NUM_ITEMS, MAX_HISTORY, NUM_BEAMS = 30, 3, 30
IS_UNSEEN = np.arange(NUM_ITEMS) % 4 == 1  # 8 of them


@pytest.fixture(scope="module")
def world():
    """Returns a corpus of 10 users with targets, a random model, and evaluators by batch size."""
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, NUM_ITEMS, rng.integers(3, 9)).tolist() for _ in range(10)]
    corpus = make(histories, num_items=NUM_ITEMS)
    ids = np.stack(np.unravel_index(rng.permutation(60)[:NUM_ITEMS], (3, 4, 5)), -1)
    model = encoder_decoder.model(
        level_sizes=(3, 4, 5),
        embedding_dim=8,
        dim=8,
        num_heads=2,
        head_dim=4,
        hidden_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        activation="relu",
        positions="relative",
        max_history=MAX_HISTORY,
        dropout=0.5,  # must not matter
        use_separator=False,
        num_user_bins=4,
        dtype="float32",
    )
    mesh = sharding.make_mesh()
    data = {"items": corpus.items, "semantic_ids": ids.astype(np.int32)}

    searcher = searchers.of_generator(model, mesh, MAX_HISTORY, data["semantic_ids"], IS_UNSEEN)

    def evaluator(batch_size, unseen_share=0.0):
        return retrieval.Evaluator(
            searcher,
            mesh,
            corpus.items,
            unseen_share=unseen_share,
            longest_history=8,
            num_beams=NUM_BEAMS,
            batch_size=batch_size,
        )

    params = sharding.replicate(mesh, model.init(jax.random.key(0)))
    return corpus, model, params, data, evaluator


def test_the_last_batch_may_be_ragged(world):
    corpus, _, params, _, evaluator = world
    samples = corpus_lib.held_out_samples(corpus, "test")
    assert len(samples) == 10
    items, scores = evaluator(4).recommend(params, samples, exclude_history=False)
    assert items.shape == scores.shape == (10, NUM_BEAMS)
    other_items, other_scores = evaluator(16).recommend(params, samples, exclude_history=False)
    np.testing.assert_array_equal(items, other_items)
    np.testing.assert_allclose(scores, other_scores, atol=1e-5)


def test_scores_are_those_of_the_model_on_the_last_items(world):
    corpus, model, params, data, evaluator = world
    samples = corpus_lib.held_out_samples(corpus, "valid")
    items, scores = evaluator(8).recommend(params, samples, exclude_history=False)
    module = model.bind(jax.device_get(params))
    for row, (user, start, target) in enumerate(zip(*jax.tree.leaves(samples), strict=True)):
        history = corpus.items[max(start, target - MAX_HISTORY) : target]
        losses = module.losses(
            np.repeat(data["semantic_ids"][history][None], NUM_BEAMS, axis=0),
            np.ones((NUM_BEAMS, len(history)), bool),
            data["semantic_ids"][items[row]],
            np.full(NUM_BEAMS, user),
        )
        np.testing.assert_allclose(scores[row], -losses.sum(axis=1), atol=1e-4)


def test_the_whole_history_is_excluded_not_only_what_the_model_reads(world):
    corpus, _, params, _, evaluator = world
    samples = corpus_lib.held_out_samples(corpus, "test")
    items, _ = evaluator(8).recommend(params, samples, exclude_history=True)
    for row, (_, start, target) in enumerate(zip(*jax.tree.leaves(samples), strict=True)):
        history = set(corpus.items[start:target].tolist())
        returned = [item for item in items[row].tolist() if item >= 0]
        assert set(returned) == set(range(NUM_ITEMS)) - history
        assert len(returned) == len(set(returned))


@pytest.mark.parametrize("exclude", [False, True])
def test_a_share_of_the_places_is_for_unseen_items(world, exclude):
    corpus, model, params, data, evaluator = world
    samples = corpus_lib.held_out_samples(corpus, "test")
    ranked = evaluator(8).recommend(params, samples, exclude_history=exclude)
    mesh = sharding.make_mesh()
    searcher = searchers.of_generator(model, mesh, MAX_HISTORY, data["semantic_ids"], IS_UNSEEN)
    unseen = searcher.search(
        params,
        searcher.data | {"items": sharding.replicate(mesh, data["items"])},
        searcher.unseen_index,
        samples,
        num_beams=10,
        num_excluded=8 if exclude else 0,
        renormalize=True,
    )
    items, scores = evaluator(8, unseen_share=0.5).recommend(
        params, samples, exclude_history=exclude
    )
    assert (items != ranked[0]).any()
    for row in range(len(samples)):
        # The search is exhaustive: the same items in another order, every other place reserved.
        left, left_unseen = (
            {item: score for item, score in zip(*pairs, strict=True) if item >= 0}
            for pairs in (
                [np.asarray(x)[row].tolist() for x in found] for found in (ranked, unseen)
            )
        )
        expected = []
        for place in range(1, len(left) + 1):
            num_unseen = sum(IS_UNSEEN[item] for item, _ in expected)
            choice = left_unseen if left_unseen and num_unseen < place // 2 else left
            expected.append(next(iter(choice.items())))
            for items_left in (left, left_unseen):
                items_left.pop(expected[-1][0], None)
        assert items[row].tolist() == [item for item, _ in expected] + [-1] * (
            NUM_ITEMS - len(expected)
        )
        np.testing.assert_allclose(
            scores[row, : len(expected)], [score for _, score in expected], atol=1e-5
        )


def test_score():
    predictions = np.array([[3, 1, 2], [5, 6, 7]])
    values = retrieval.score(predictions, np.array([1, 0]), "test_new")
    assert values["test_new/recall@1"] == 0 and values["test_new/recall@5"] == 0.5
    assert values["test_new/ndcg@10"] == pytest.approx(0.5 / np.log2(3))
    assert values["test_new/num_users"] == 2
