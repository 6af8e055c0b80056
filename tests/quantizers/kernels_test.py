"""The accelerators' kernels, interpreted on a CPU, against XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax import sharding
from genrec_jax.quantizers import kernels, residual

needs_interpreter = pytest.mark.skipif(
    jax.__version_info__ < (0, 11), reason="no interpreter of Mosaic GPU kernels"
)


def draw(num_rows, width, sizes):
    """Returns rows, and codebooks that shrink from level to level."""
    x = jax.random.normal(jax.random.key(0), (num_rows, width))
    rngs = jax.random.split(jax.random.key(1), len(sizes))
    codebooks = [
        0.8**level * jax.random.normal(rng, (size, width))
        for level, (rng, size) in enumerate(zip(rngs, sizes, strict=True))
    ]
    return x, codebooks


def interpreted(x, codebooks):
    from jax.experimental.pallas import mosaic_gpu

    return kernels._on_hopper(x, *codebooks, interpret=mosaic_gpu.InterpretGPUParams())


# The first two fit into shared memory; rows and codes are padded in all.
@needs_interpreter
@pytest.mark.parametrize(
    "shape", [(130, 20, (70, 33, 128)), (64, 64, (64,)), (200, 70, (300, 64)), (70, 130, (65,))]
)
def test_the_hopper_kernels(shape):
    x, codebooks = draw(*shape)
    found = interpreted(x, codebooks)
    np.testing.assert_array_equal(found, residual.nearest_codes(x, codebooks, implementation="xla"))


@needs_interpreter
def test_of_equal_codewords_a_hopper_kernel_takes_the_first_and_of_nan_some_code():
    codebook = jnp.ones((96, 16)).at[40].set(2.0).at[90].set(2.0)
    x = jnp.stack([jnp.ones(16), 2 * jnp.ones(16), jnp.full(16, jnp.nan)])
    found = np.asarray(interpreted(x, [codebook]))[:, 0]
    assert found[:2].tolist() == [0, 40] and 0 <= found[2] < 128


def test_the_tpu_kernel():
    x, codebooks = draw(1000, 20, (70, 33, 128))
    found = kernels._on_tpu(x, *codebooks, interpret=True)
    np.testing.assert_array_equal(found, residual.nearest_codes(x, codebooks, implementation="xla"))


def test_each_device_codes_its_own_rows():
    mesh = sharding.make_mesh()
    x, codebooks = draw(80, 8, (16, 32))
    codes = kernels._over_rows(lambda x, *codebooks: residual.nearest_codes(x, codebooks))
    split = jax.jit(lambda x, codebooks: codes(x, *codebooks))
    arguments = jax.device_put(x, sharding.over_rows(mesh)), sharding.replicate(mesh, codebooks)
    found = split(*arguments)
    np.testing.assert_array_equal(found, residual.nearest_codes(x, codebooks))
    assert found.sharding.is_equivalent_to(sharding.over_rows(mesh), found.ndim)
    assert "all-gather" not in split.lower(*arguments).compile().as_text()


def test_the_kernels_can_be_split():
    x, codebooks = draw(80, 8, (16, 32))
    assert jax.eval_shape(kernels._over_rows(kernels._on_tpu), x, *codebooks).shape == (80, 2)


def test_widths_that_the_matrix_units_read():
    widths = [kernels._padded_width(width) for width in (1, 16, 17, 33, 64, 65, 128, 129)]
    assert widths == [16, 16, 32, 64, 64, 128, 128, 192]
