"""Residual quantisation on numbers that a reader can check."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax import losses
from genrec_jax.quantizers import residual, vector

CODEBOOKS = jnp.array([[[0.0, 0.0], [4.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # [Q, K, C]


def test_each_level_codes_what_the_last_left_over():
    quantized = residual.residual_quantize(jnp.array([[4.9, 0.0], [0.2, 0.8]]), CODEBOOKS)
    np.testing.assert_array_equal(quantized.ids, [[1, 0], [0, 1]])
    np.testing.assert_allclose(quantized.residuals[1], [[0.9, 0.0], [0.2, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(quantized.embedding, [[5.0, 0.0], [0.0, 1.0]], rtol=1e-6)


def test_ties_go_to_the_lowest_code():
    codebook = jnp.array([[1.0], [-1.0], [1.0]])
    np.testing.assert_array_equal(vector.nearest_codeword(jnp.array([[0.0], [1.0]]), codebook), 0)


def test_straight_through_passes_gradients_to_the_input():
    x = jnp.array([[4.9, 0.0]])
    weight = jnp.array([[2.0, -3.0]])

    def value(x):
        return jnp.sum(weight * residual.residual_quantize(x, CODEBOOKS).embedding)

    np.testing.assert_array_equal(jax.grad(value)(x), weight)


@pytest.mark.parametrize("mode, reaches", [("estimator", False), ("pass", True)])
def test_whether_later_levels_teach_the_encoder(mode, reaches):
    x = jnp.array([[4.9, 0.3]])

    def commitment_of_level_1(x):
        quantized = residual.residual_quantize(x, CODEBOOKS, residual_gradient=mode)
        return losses.quantization(quantized.residuals[1:], quantized.codewords[1:], 0.25)[0]

    # The residual of level 1 is (0.9, 0.3), its codeword (1, 0): 0.25 * 2 * (r - e).
    expected = [[-0.05, 0.15]] if reaches else [[0.0, 0.0]]
    np.testing.assert_allclose(jax.grad(commitment_of_level_1)(x), expected, atol=1e-6)


@pytest.mark.parametrize("mode", residual.RESIDUAL_GRADIENTS)
def test_the_codebook_learns_from_the_codeword_that_was_chosen_alone(mode):
    def loss(codebooks):
        quantized = residual.residual_quantize(
            jnp.array([[4.9, 0.0]]), codebooks, residual_gradient=mode
        )
        return losses.quantization(quantized.residuals, quantized.codewords, 0.25)[0]

    grad = jax.grad(loss)(CODEBOOKS)
    expected = np.zeros_like(CODEBOOKS)
    expected[0, 1] = [2 * (4.0 - 4.9), 0.0]
    expected[1, 0] = [2 * (1.0 - 0.9), 0.0]
    np.testing.assert_allclose(grad, expected, atol=1e-5)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="residual_gradient"):
        residual.residual_quantize(jnp.zeros((1, 2)), CODEBOOKS, residual_gradient="leak")


def test_dead_codes_start_anew_as_what_is_left_at_their_level():
    x = jnp.array([[0.1, 0.0], [0.9, 1.0], [1.1, 1.0]])
    codebooks = jnp.array([[[0.0, 0.0], [9.0, 9.0], [1.0, 1.0]], [[0.0, 0.0], [7.0, 7.0], [8, 0]]])
    reset, is_reset = residual.reset_dead_codes(jax.random.key(0), x, codebooks)
    np.testing.assert_array_equal(is_reset, [[False, True, False], [False, True, True]])
    reset = np.asarray(reset)
    np.testing.assert_array_equal(reset[0, [0, 2]], codebooks[0, jnp.array([0, 2])])  # in use
    (captured,) = np.flatnonzero((x == reset[0, 1]).all(axis=1))  # this row is the new code
    left = np.array([[0.1, 0.0], [-0.1, 0.0], [0.1, 0.0]], np.float32)
    left[captured] = 0
    np.testing.assert_array_equal(reset[1, 0], codebooks[1, 0])  # of all rows, as they are small
    for code in (1, 2):
        assert np.isclose(reset[1, code], left, atol=1e-6).all(axis=1).any()
    again, _ = residual.reset_dead_codes(jax.random.key(0), x, codebooks)
    np.testing.assert_array_equal(again, reset)


def test_every_new_code_codes_a_row_that_its_level_has_left():
    x = jax.random.normal(jax.random.key(1), (400, 8))
    codebooks = jax.random.normal(jax.random.key(2), (3, 64, 8)).at[:, 32:].add(100.0)
    before = residual.residual_quantize(x, codebooks).ids
    assert all(len(np.unique(before[:, level])) <= 32 for level in range(3))
    reset, _ = residual.reset_dead_codes(jax.random.key(3), x, codebooks)
    after = residual.residual_quantize(x, reset)
    for level in range(3):
        left = after.residuals[level]
        for code in reset[level][32:]:
            assert jnp.min(jnp.sum((left - code) ** 2, axis=-1)) == 0 < jnp.max(jnp.abs(code))
        assert len(set(range(32, 64)) & set(after.ids[:, level].tolist())) > 30  # but for ties


def test_codes_that_are_all_in_use_stay():
    x = jnp.array([[0.0, 0.0], [4.0, 0.0], [5.0, 0.0], [0.0, 1.0]])
    reset, is_reset = residual.reset_dead_codes(jax.random.key(0), x, CODEBOOKS)
    np.testing.assert_array_equal(reset, CODEBOOKS)
    assert not np.any(is_reset)


def test_levels_of_different_sizes():
    codebooks = [jnp.array([[0.0], [10.0], [20.0]]), jnp.array([[-1.0], [1.0]])]
    x = jnp.array([[9.2], [20.7], [1.5]])
    quantized = residual.residual_quantize(x, codebooks)
    np.testing.assert_array_equal(quantized.ids, [[1, 0], [2, 1], [0, 1]])
    np.testing.assert_allclose(quantized.embedding, [[9.0], [21.0], [1.0]])
    padded = residual.pad(codebooks)
    np.testing.assert_array_equal(padded, [[[0], [10], [20]], [[-1], [1], [0]]])
    for ours, theirs in zip(residual.unpad(padded, (3, 2)), codebooks, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("levels", "counts"),
    [((), [[4, 0], [4, 0]]), ((1,), [[4, 0], [2, 2]]), ((0, 1), [[2, 2], [2, 2]])],
)
def test_balanced_levels_give_each_code_its_share(levels, counts):
    x = jnp.array([[0.1], [0.2], [0.3], [0.4]])
    codebooks = [jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [9.0]])]
    ids = np.asarray(residual.residual_quantize(x, codebooks, balanced_levels=levels).ids)
    assert [np.bincount(ids[:, level], minlength=2).tolist() for level in (0, 1)] == counts
    if levels == (0, 1):
        np.testing.assert_array_equal(ids[:, 0], [0, 0, 1, 1])  # the nearer ones go to code 1
