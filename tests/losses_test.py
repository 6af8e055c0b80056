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


def test_the_next_items_of_packed_histories():
    items = np.array([[3, 1, 4, 5, 2], [1, 6, 0, 0, 0]])
    segments = np.array([[0, 0, 0, 1, 1], [0, 0, -1, -1, -1]])
    after, there = losses.next_items(items, segments)
    np.testing.assert_array_equal(there, [[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(after[there], [1, 4, 2, 6])


def test_smoothed_cross_entropy_is_that_of_a_mixture():
    logits = np.array([[1.0, 2.0, 3.0, 4.0]])
    counts = np.array([True, True, False, True])
    log_probs = logits[0, counts] - np.log(np.exp(logits[0, counts]).sum())
    mixture = np.array([0.1, 0.7 + 0.1, 0.1])
    found = losses.smoothed_cross_entropy(jnp.array(logits), np.array([1]), 0.3, where=counts)
    np.testing.assert_allclose(found, [-np.sum(mixture * log_probs)], rtol=1e-6)
    plain = losses.smoothed_cross_entropy(jnp.array(logits), np.array([1]))
    np.testing.assert_allclose(plain, losses.cross_entropy(jnp.array(logits), np.array([1])))
