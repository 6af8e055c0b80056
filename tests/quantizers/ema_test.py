"""Codebooks as moving averages."""

import jax.numpy as jnp
import numpy as np

from genrec_jax.quantizers import ema, residual

CODEBOOKS = jnp.array([[[0.0], [10.0]], [[-1.0], [1.0]]])


def test_one_batch_by_hand():
    quantized = residual.residual_quantize(jnp.array([[8.5], [9.5], [12.0], [1.5]]), CODEBOOKS)
    np.testing.assert_array_equal(quantized.ids, [[1, 0], [1, 0], [1, 1], [0, 1]])
    observed = ema.observe(quantized, 2)
    np.testing.assert_allclose(observed.counts, [[1 / 4, 3 / 4], [2 / 4, 2 / 4]])
    np.testing.assert_allclose(observed.sums[..., 0], [[1.5 / 4, 30 / 4], [-2 / 4, 3.5 / 4]])
    codebooks, averages = ema.update(CODEBOOKS, ema.start(CODEBOOKS), observed, 0.9)
    counts = np.array([[0.9 / 2 + 0.1 / 4, 0.9 / 2 + 0.3 / 4], [0.5, 0.5]])
    sums = [[0.15 / 4, 0.9 * 5 + 3 / 4], [-0.9 / 2 - 0.2 / 4, 0.9 / 2 + 0.35 / 4]]
    np.testing.assert_allclose(averages.counts, counts, rtol=1e-6)
    np.testing.assert_allclose(codebooks[..., 0], sums / counts, rtol=1e-5)


def test_a_code_that_nobody_chooses_stays_where_it_is():
    quantized = residual.residual_quantize(jnp.array([[9.0]]), CODEBOOKS[:1])
    codebooks, averages = CODEBOOKS[:1], ema.start(CODEBOOKS[:1])
    for _ in range(300):
        codebooks, averages = ema.update(codebooks, averages, ema.observe(quantized, 2), 0.5)
    np.testing.assert_allclose(codebooks[0], [[0.0], [9.0]], rtol=1e-6)
    assert float(averages.counts[0, 0]) < 1e-30


def test_the_averages_of_a_new_start_are_those_of_the_codeword():
    averages = ema.Averages(jnp.zeros((2, 2)), jnp.full((2, 2, 1), 7.0))
    is_reset = jnp.array([[True, False], [False, True]])
    restarted = ema.restart(CODEBOOKS, averages, is_reset)
    np.testing.assert_allclose(restarted.counts, [[0.5, 0], [0, 0.5]])
    np.testing.assert_allclose(restarted.sums[..., 0], [[0.0, 7.0], [7.0, 0.5]])


def test_levels_of_different_sizes():
    codebooks = [jnp.array([[0.0], [10.0], [20.0]]), jnp.array([[-1.0], [1.0]])]
    observed = ema.observe(residual.residual_quantize(jnp.array([[19.0]]), codebooks), 3)
    np.testing.assert_array_equal(observed.counts, [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(observed.sums[..., 0], [[0, 0, 19], [-1, 0, 0]])
