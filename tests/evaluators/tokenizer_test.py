"""Semantic IDs of a catalogue that does not fit one call."""

import jax
import numpy as np

from genrec_jax.evaluators import tokenizer
from genrec_jax.models import rqvae

MODEL = rqvae.model(
    embedding_dim=4,
    hidden_dims=(8,),
    code_dim=3,
    num_levels=2,
    codebook_size=5,
    commitment_weight=0.25,
    residual_gradient="estimator",
    estimator="straight_through",
    distance="euclidean",
    temperature=0.2,
    simvq=False,
    normalize=False,
)
PARAMS = MODEL.init(jax.random.key(0))
X = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
NONE = np.zeros(23, bool)


def test_calls_change_nothing(monkeypatch):
    whole, losses = tokenizer.Evaluator(MODEL, X, NONE).assign(PARAMS)
    monkeypatch.setattr(tokenizer, "_ROWS", 10)
    parts, parts_losses = tokenizer.Evaluator(MODEL, X, NONE).assign(PARAMS)
    np.testing.assert_array_equal(parts, whole)
    assert whole.shape == (23, 2)
    for name, value in losses.items():
        np.testing.assert_allclose(parts_losses[name], value, rtol=1e-6)


def test_losses_are_means_over_the_catalogue():
    values = tokenizer.Evaluator(MODEL, X, NONE).run(PARAMS)
    output = MODEL.bind(PARAMS)(X)
    loss = float(output.reconstruction_loss.mean())
    np.testing.assert_allclose(values["tokenizer/reconstruction_loss"], loss, rtol=1e-5)
    assert values["tokenizer/unique_before"] == len(np.unique(output.quantized.ids, axis=0)) / 23


def test_held_out_items_have_a_loss_of_their_own():
    is_held_out = np.arange(23) % 7 == 0
    values = tokenizer.Evaluator(MODEL, X, is_held_out).run(PARAMS)
    output = MODEL.bind(PARAMS)(X[is_held_out])
    loss = float(output.reconstruction_loss.mean())
    np.testing.assert_allclose(values["tokenizer/held_out_reconstruction_loss"], loss, rtol=1e-5)
    without = tokenizer.Evaluator(MODEL, X, NONE).run(PARAMS)
    assert "tokenizer/held_out_reconstruction_loss" not in without
    loss = without["tokenizer/reconstruction_loss"]
    np.testing.assert_allclose(values["tokenizer/reconstruction_loss"], loss, rtol=1e-6)
