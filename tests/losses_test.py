"""Losses on numbers that a reader can check."""

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax import losses


def test_reconstruction_is_summed_over_the_width():
    np.testing.assert_array_equal(
        losses.reconstruction(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 4.0]])), [5.0]
    )


def test_quantization_sums_levels_and_weighs_the_commitment():
    residuals = jnp.array([[[1.0, 0.0]], [[0.0, 2.0]]])  # [Q, B, C]
    codewords = jnp.zeros_like(residuals)
    np.testing.assert_array_equal(losses.quantization(residuals, codewords, 0.25), [5 * 1.25])
    to_residuals, to_codewords = jax.grad(
        lambda *args: losses.quantization(*args, 0.25).sum(), (0, 1)
    )(residuals, codewords)
    np.testing.assert_array_equal(to_residuals, 0.25 * 2 * residuals)
    np.testing.assert_array_equal(to_codewords, -2 * residuals)


def test_cross_entropy():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    loss = losses.cross_entropy(logits, jnp.array([0, 2]))
    np.testing.assert_allclose(loss, -np.log([0.5, 0.8]), rtol=1e-6)


def test_cross_entropy_of_half_precision_logits_is_float32():
    logits = jnp.array([[100.0, 0.0]], jnp.bfloat16)
    loss = losses.cross_entropy(logits, jnp.array([1]))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, [100.0])
