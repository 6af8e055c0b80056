"""Rounding to a grid, and the grid as codebooks."""

import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.quantizers import fsq, residual


def test_grids_by_hand():
    first, second = fsq.grids(((3,), (2, 4)))
    np.testing.assert_array_equal(first, [[-1, 0, 0], [0, 0, 0], [1, 0, 0]])
    expected = [[0, a, b] for a in (-1, 0) for b in (-1, -0.5, 0, 0.5)]
    np.testing.assert_array_equal(second, expected)


@pytest.mark.parametrize("num_values", [2, 3, 4, 5, 8, 9])
def test_a_dimension_reaches_each_of_its_values_and_no_other(num_values):
    x = jnp.linspace(-8, 8, 2001)[:, None]
    latents = fsq.bound(x, (num_values,))
    (grid,) = fsq.grids(((num_values,),))
    rounded = np.unique(np.round(np.asarray(latents) * (num_values // 2)))
    np.testing.assert_array_equal(rounded, np.round(grid[:, 0] * (num_values // 2)))
    assert np.all(np.diff(latents[:, 0]) > -1e-5)  # but for rounding
    ids = np.asarray(residual.residual_quantize(latents, [jnp.asarray(grid)]).ids[:, 0])
    np.testing.assert_array_equal(np.unique(ids), np.arange(num_values))


def test_zero_is_in_the_middle():
    np.testing.assert_allclose(fsq.bound(jnp.zeros((1, 2)), (5, 8)), np.zeros((1, 2)), atol=1e-6)


def test_nearest_codes_are_the_roundings_of_each_dimension():
    shapes = ((4, 3), (5,), (2, 2, 3))
    flat = tuple(number for shape in shapes for number in shape)
    x = 2 * np.random.default_rng(0).normal(size=(500, len(flat))).astype(np.float32)
    latents = np.asarray(fsq.bound(jnp.asarray(x), flat))
    codebooks = fsq.grids(shapes)
    quantized = residual.residual_quantize(
        jnp.asarray(latents), [jnp.asarray(c) for c in codebooks]
    )
    half = np.array(flat) // 2
    digits = np.round(latents * half).astype(int)  # from -half on
    np.testing.assert_allclose(quantized.embedding, digits / half, atol=1e-6)
    places = digits + half
    expected = np.stack(
        [
            np.ravel_multi_index(places[:, :2].T, (4, 3)),
            places[:, 2],
            np.ravel_multi_index(places[:, 3:].T, (2, 2, 3)),
        ],
        axis=-1,
    )
    np.testing.assert_array_equal(quantized.ids, expected)
