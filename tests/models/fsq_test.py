"""The autoencoder around finite scalar quantisation."""

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax.models import fsq

MODEL = fsq.model(embedding_dim=6, hidden_dims=(8,), level_shapes=((4, 3), (5,)))


def test_the_gradient_passes_the_rounding_unchanged():
    params = MODEL.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (7, 6))

    def straight(params):
        return MODEL.bind(params)(x, jax.random.key(2)).reconstruction_loss.sum()

    def by_hand(params):
        module = MODEL.bind(params)
        latents = module.encode(x)
        rounding = jax.lax.stop_gradient(module(x).quantized.embedding - latents)
        return ((module.decode(latents + rounding) - x) ** 2).sum()

    ours, expected = jax.jit(jax.grad(straight))(params), jax.jit(jax.grad(by_hand))(params)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert np.abs(ours["encoder"]["layers"][0]["kernel"]).max() > 0


def test_codes_and_shapes():
    params = MODEL.init(jax.random.key(0))
    output = MODEL.bind(params)(3 * jax.random.normal(jax.random.key(1), (200, 6)))
    assert output.quantized.ids.shape == (200, 2)
    assert [len(codebook) for codebook in MODEL.bind(params).codewords()] == [12, 5]
    assert np.all(np.asarray(output.quantized.ids).max(axis=0) < [12, 5])
    np.testing.assert_array_equal(output.quantization_loss, jnp.zeros(200))
