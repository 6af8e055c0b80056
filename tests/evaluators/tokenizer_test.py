"""Semantic IDs of a catalogue that does not fit one call."""

import jax
import numpy as np
import pytest

from configs import rqvae as rqvae_config
from genrec_jax import sharding
from genrec_jax.evaluators import tokenizer
from genrec_jax.tokenizers import codecs

CONFIG = {
    "name": "rqvae",
    "model": rqvae_config.get_config().model.to_dict()
    | {"hidden_dims": (8,), "code_dim": 3, "num_levels": 2, "codebook_size": 5},
}
MODEL, CODEC = codecs.NEURAL["rqvae"](CONFIG["model"], 4)
PARAMS = MODEL.init(jax.random.key(0))
X = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
NONE = np.zeros(23, bool)
MESH = sharding.one_device()


def test_calls_change_nothing(monkeypatch):
    whole, latents, losses = tokenizer.Evaluator(CODEC, X, NONE, MESH).assign(PARAMS)
    monkeypatch.setattr(tokenizer, "_ROWS", 10)
    parts, parts_latents, parts_losses = tokenizer.Evaluator(CODEC, X, NONE, MESH).assign(PARAMS)
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_allclose(parts_latents, latents, atol=1e-6)
    assert whole.shape == (23, 2)
    for name, value in losses.items():
        np.testing.assert_allclose(parts_losses[name], value, rtol=1e-6)


def test_devices_share_the_items(monkeypatch):
    whole, latents, losses = tokenizer.Evaluator(CODEC, X, NONE, MESH).assign(PARAMS)
    monkeypatch.setattr(tokenizer, "_ROWS", 10)
    mesh = sharding.make_mesh(2, 2, jax.devices()[:4])
    x, params = sharding.put(mesh, ({"embeddings": X}, PARAMS))
    shared = tokenizer.Evaluator(CODEC, x["embeddings"], NONE, mesh).assign(params)
    np.testing.assert_array_equal(shared.codes, whole)
    np.testing.assert_allclose(shared.latents, latents, atol=1e-6)
    assert shared.losses == pytest.approx(losses, rel=1e-6)


def test_losses_are_means_over_the_catalogue():
    values = tokenizer.Evaluator(CODEC, X, NONE, MESH).run(PARAMS)
    output = MODEL.bind(PARAMS)(X)
    loss = float(output.reconstruction_loss.mean())
    np.testing.assert_allclose(values["tokenizer/reconstruction_loss"], loss, rtol=1e-5)
    assert values["tokenizer/unique_before"] == len(np.unique(output.quantized.ids, axis=0)) / 23


def test_held_out_items_have_a_loss_of_their_own():
    is_held_out = np.arange(23) % 7 == 0
    values = tokenizer.Evaluator(CODEC, X, is_held_out, MESH).run(PARAMS)
    output = MODEL.bind(PARAMS)(X[is_held_out])
    loss = float(output.reconstruction_loss.mean())
    np.testing.assert_allclose(values["tokenizer/held_out_reconstruction_loss"], loss, rtol=1e-5)
    without = tokenizer.Evaluator(CODEC, X, NONE, MESH).run(PARAMS)
    assert "tokenizer/held_out_reconstruction_loss" not in without
    loss = without["tokenizer/reconstruction_loss"]
    np.testing.assert_allclose(values["tokenizer/reconstruction_loss"], loss, rtol=1e-6)


def test_balanced_levels_see_all_items_or_so_many_at_once(monkeypatch):
    monkeypatch.setattr(tokenizer, "_ROWS", 10)
    balanced = CODEC._replace(balanced_levels=(0, 1))
    codes = tokenizer.Evaluator(balanced, X, NONE, MESH).assign(PARAMS).codes
    for level in (0, 1):
        assert sorted(np.bincount(codes[:, level], minlength=5)) == [4, 4, 5, 5, 5]
    codes = (
        tokenizer.Evaluator(balanced._replace(balanced_rows=5), X, NONE, MESH).assign(PARAMS).codes
    )
    for first in (0, 5, 10, 15):
        np.testing.assert_array_equal(np.sort(codes[first : first + 5, 0]), np.arange(5))
