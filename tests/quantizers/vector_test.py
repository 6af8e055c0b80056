"""One level of quantisation on numbers that a reader can check."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from genrec_jax.quantizers import vector

CODEBOOK = jnp.array([[4.0, 0.0], [0.0, 0.5], [-1.0, -1.0]])


@pytest.mark.parametrize("distance, code", [("euclidean", 1), ("cosine", 0)])
def test_which_codeword_is_nearest(distance, code):
    x = jnp.array([[0.6, 0.5]])  # short, and at an angle of 40 degrees
    np.testing.assert_array_equal(vector.nearest_codeword(x, CODEBOOK, distance), [code])
    level = vector.quantize(x, CODEBOOK, distance=distance)
    np.testing.assert_array_equal(level.ids, [code])
    np.testing.assert_array_equal(level.output[0], CODEBOOK[code])


@pytest.mark.parametrize("distance", vector.DISTANCES)
def test_codes_are_those_of_a_float64_brute_force(distance):
    x = jax.random.normal(jax.random.key(0), (20_000, 32))
    codebook = jax.random.normal(jax.random.key(1), (256, 32))
    codes = vector.nearest_codeword(x, codebook, distance)
    x64, codebook64 = np.asarray(x, np.float64), np.asarray(codebook, np.float64)
    if distance == "cosine":
        codebook64 /= np.linalg.norm(codebook64, axis=1, keepdims=True)
    exact = (codebook64**2).sum(axis=1) - 2 * x64 @ codebook64.T
    assert (exact.argmin(axis=1) == np.asarray(codes)).mean() >= 0.9999


def test_a_latent_of_zeros_has_a_code_and_finite_gradients():
    x = jnp.zeros((1, 2))
    for estimator in ("straight_through", "rotation"):
        for distance in vector.DISTANCES:

            def total(x, estimator=estimator, distance=distance):
                return vector.quantize(
                    x, CODEBOOK, estimator=estimator, distance=distance
                ).output.sum()

            assert np.isfinite(jax.grad(total)(x)).all()


def test_rotation_turns_and_scales_gradients_as_it_turns_and_scales_the_input():
    x, x_q = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 6.0]])  # a quarter turn, three times as long
    output, gradients = jax.vjp(lambda x: vector.rotate(x, x_q), x)
    np.testing.assert_allclose(output, x_q, atol=1e-5)
    # A turn of the output by 90 degrees, so the gradient turns back by 90 degrees.
    np.testing.assert_allclose(gradients(jnp.array([[1.0, 0.0]]))[0], [[0.0, -3.0]], atol=1e-5)
    np.testing.assert_allclose(gradients(jnp.array([[0.0, 1.0]]))[0], [[3.0, 0.0]], atol=1e-5)


def test_gumbel_is_a_mean_whose_gradient_is_that_of_finite_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, codebook, weight = (
            rng.normal(size=(5, 3)),
            rng.normal(size=(4, 3)),
            rng.normal(size=(5, 3)),
        )
        uniform = jnp.asarray(rng.uniform(size=(5, 4)))

        def value(x, codebook):
            level = vector.quantize(
                x, codebook, estimator="gumbel", temperature=0.5, uniform=uniform
            )
            return jnp.sum(level.output * weight)

        check_grads(value, (jnp.asarray(x), jnp.asarray(codebook)), 1, modes=["rev"], rtol=1e-6)
        cold = vector.gumbel_softmax(jnp.array([[0.0, 1.0]]), jnp.array([[0.5, 0.5]]), 1e-3)
        np.testing.assert_allclose(cold, [[0.0, 1.0]], atol=1e-12)


def test_effective_codewords():
    table = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    swap = jnp.array([[0.0, 2.0], [1.0, 0.0]])
    np.testing.assert_allclose(vector.effective_codebook(table, swap), [[4.0, 6.0], [0.0, 0.0]])
    unit = vector.effective_codebook(table, normalize=True)
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    gradient = jax.grad(lambda table: vector.effective_codebook(table, normalize=True).sum())(table)
    assert np.isfinite(gradient).all()
