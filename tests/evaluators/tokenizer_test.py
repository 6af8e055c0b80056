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
    residual_gradient="stop",
)
PARAMS = MODEL.init(jax.random.key(0))
X = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)


def test_calls_change_nothing(monkeypatch):
    whole, losses = tokenizer.Evaluator(MODEL, X).assign(PARAMS)
    monkeypatch.setattr(tokenizer, "_ROWS", 10)
    parts, parts_losses = tokenizer.Evaluator(MODEL, X).assign(PARAMS)
    np.testing.assert_array_equal(parts, whole)
    assert whole.shape == (23, 2)
    for name, value in losses.items():
        np.testing.assert_allclose(parts_losses[name], value, rtol=1e-6)


def test_losses_are_means_over_the_catalogue():
    values = tokenizer.Evaluator(MODEL, X).run(PARAMS)
    output = MODEL.bind(PARAMS)(X)
    loss = float(output.reconstruction_loss.mean())
    np.testing.assert_allclose(values["tokenizer/reconstruction_loss"], loss, rtol=1e-5)
    assert values["tokenizer/unique_before"] == len(np.unique(output.quantized.ids, axis=0)) / 23
