"""Recommendations for all users, whatever the batch."""

import jax
import numpy as np
import pytest

from genrec_jax import sharding
from genrec_jax.data import corpus as corpus_lib
from genrec_jax.decoding import prefix_index
from genrec_jax.evaluators import retrieval
from genrec_jax.models import encoder_decoder
from tests.data.corpus_test import make

NUM_ITEMS, MAX_HISTORY, NUM_BEAMS = 30, 3, 30


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

    def evaluator(batch_size, max_history=MAX_HISTORY):
        return retrieval.Evaluator(
            model,
            mesh,
            sharding.replicate(mesh, data),
            sharding.replicate(mesh, prefix_index.build(ids)),
            max_history=max_history,
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


def test_score():
    predictions = np.array([[3, 1, 2], [5, 6, 7]])
    values = retrieval.score(predictions, np.array([1, 0]), "test_new")
    assert values["test_new/recall@1"] == 0 and values["test_new/recall@5"] == 0.5
    assert values["test_new/ndcg@10"] == pytest.approx(0.5 / np.log2(3))
    assert values["test_new/num_users"] == 2
