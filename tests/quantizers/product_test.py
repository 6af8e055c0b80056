"""Product quantisation on grids, and as the residual quantisation that it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.errors import UserError
from genrec_jax.quantizers import product, residual

OPTIONS = {"num_init": 5, "max_iterations": 50, "batch_size": 0}


def normal_rows(num_rows, variances, seed=0):
    """Returns [N, C] float32 with these variances, turned at random."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(len(variances),) * 2))
    rows = rng.normal(size=(num_rows, len(variances))) * np.sqrt(variances)
    return (rows @ turn).astype(np.float32)


def mean_squared_error(x, rotation, codebooks):
    rotated = x @ np.asarray(rotation)
    codes = residual.residual_quantize(rotated, codebooks).ids
    quantized = sum(np.asarray(book)[codes[:, level]] for level, book in enumerate(codebooks))
    return float(((rotated - quantized) ** 2).sum(axis=1).mean())


def test_levels_code_dimensions_of_their_own():
    # 0 and 4 in the first two dimensions, -1 and 1 in the third.
    x = jnp.array([[0.0, 0.0, 1.0], [4.0, 4.0, 1.0], [0.0, 0.0, -1.0], [4.0, 4.0, -1.0]])
    rotation, (first, second) = product.product_quantization(
        jax.random.key(0), x, (2, 2), num_rotations=0, **OPTIONS
    )
    np.testing.assert_array_equal(rotation, np.eye(3))
    assert sorted(first.tolist()) == [[0, 0, 0], [4, 4, 0]]
    assert sorted(second.tolist()) == [[0, 0, -1], [0, 0, 1]]


def test_dimensions_that_do_not_divide_and_levels_of_different_sizes():
    x = normal_rows(200, np.ones(7))
    _, codebooks = product.product_quantization(
        jax.random.key(0), x, (8, 4, 2), num_rotations=3, **OPTIONS
    )
    assert [codebook.shape for codebook in codebooks] == [(8, 7), (4, 7), (2, 7)]
    used = np.array([np.abs(codebook).max(axis=0) > 0 for codebook in codebooks])
    expected = [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(used, expected)


def test_residual_quantisation_gives_the_codes_of_the_parts():
    x = jnp.asarray(normal_rows(1000, np.linspace(1, 3, 6)))
    rotation, codebooks = product.product_quantization(
        jax.random.key(0), x, (16, 16, 16), num_rotations=5, **OPTIONS
    )
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(6), atol=1e-5)
    rotated = x @ rotation
    quantized = residual.residual_quantize(rotated, jnp.stack(codebooks))
    for level in range(3):
        part = slice(2 * level, 2 * level + 2)
        distances = jnp.sum((rotated[:, None, part] - codebooks[level][:, part]) ** 2, axis=-1)
        np.testing.assert_array_equal(quantized.ids[:, level], distances.argmin(axis=1))
        np.testing.assert_array_equal(
            quantized.embedding[:, part], codebooks[level][quantized.ids[:, level], part]
        )


def test_a_rotated_grid_is_turned_back():
    # 4 x 2 points: one dimension has four values, the other two. Turned by 30 degrees, neither has.
    grid = np.array([[a, b] for a in (-6.0, -2.0, 2.0, 6.0) for b in (-1.0, 1.0)], np.float32)
    cos, sin = np.sqrt(3) / 2, 0.5
    x = np.tile(grid @ np.array([[cos, sin], [-sin, cos]], np.float32), (10, 1))
    errors = {}
    for num_rotations in (0, 10):
        rotation, codebooks = product.product_quantization(
            jax.random.key(0), x, (4, 2), num_rotations=num_rotations, **OPTIONS
        )
        errors[num_rotations] = mean_squared_error(x, rotation, codebooks)
    assert errors[0] > 0.5 and errors[10] < 1e-8
    # The rotation is that of the grid, but for signs.
    np.testing.assert_allclose(np.abs(rotation), [[cos, sin], [sin, cos]], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_optimised_is_no_worse_than_plain(seed):
    variances = np.array([8.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05])
    turned = normal_rows(1500, variances, seed)
    straight = np.random.default_rng(seed).normal(size=(1500, 8)).astype(np.float32)
    for x, gain in ((turned, 0.97), (straight, 1.0)):
        errors = [
            mean_squared_error(
                x,
                *product.product_quantization(
                    jax.random.key(seed), x, (16, 16), num_rotations=num_rotations, **OPTIONS
                ),
            )
            for num_rotations in (0, 1, 20)
        ]
        assert errors[2] <= errors[1] * (1 + 1e-6) <= errors[0] * (1 + 2e-6)
        assert errors[2] < gain * errors[0]


def test_axes_are_dealt_out_so_that_products_of_variances_are_alike():
    # Uncorrelated dimensions, whose variances in units of the least are 32, 16, 4 and 1.
    signs = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) * 1.0
    x = np.concatenate([signs, -signs]) * np.sqrt([1.0, 32.0, 4.0, 16.0])
    axes = np.abs(product.balanced_axes(jnp.asarray(x, jnp.float32), (2, 2)))
    # 32 goes to the first level, 16 and 4 to the second, which is full then, and 1 to the first:
    # dimensions 1 and 0, then 3 and 2.
    np.testing.assert_allclose(axes, np.eye(4)[:, [1, 0, 3, 2]], atol=1e-6)


def test_more_levels_than_dimensions_are_refused():
    with pytest.raises(UserError, match=r"3 levels of a product .* have 2: give fewer levels"):
        product.product_quantization(
            jax.random.key(0), jnp.zeros((9, 2)), (4, 4, 4), num_rotations=0, **OPTIONS
        )
