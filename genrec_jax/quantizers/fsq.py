"""Finite scalar quantisation: a latent's dimensions are rounded to a few values each.

Mentzer et al., 2023 (https://arxiv.org/abs/2309.15505). A level codes some of the dimensions, and
its codebook is the grid of their values, zero in all other dimensions, so that a quantised latent
is the sum of its codewords as in residual quantisation, whose nearest codes are the roundings.

B batch   Q levels   C code width, the number of all dimensions   K grid points of a level
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


def bound(x: jax.Array, num_values: tuple[int, ...]) -> jax.Array:
    """Returns x [B, C] squeezed into the range of the grid by a tanh.

    Dimension c has `num_values[c]` = L values: whole steps of 2 / L around 0 (section 3.1). The
    range of an even number is shifted by half a step, so that it has L whole values.
    """
    values = np.array(num_values)
    half = (values - 1) * (1 + 1e-3) / 2  # a little more, so that the outer values are reached
    offset = np.where(values % 2 == 0, 0.5, 0.0)
    shift = np.arctanh(offset / half)
    steps = jnp.tanh(x + shift.astype(x.dtype)) * half.astype(x.dtype) - offset.astype(x.dtype)
    return steps / (values // 2).astype(x.dtype)


def grids(level_shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    """Returns Q codebooks [K, C] float32; the last dimension of a level changes fastest.

    Args:
        level_shapes: for each level the number of values of each of its dimensions.
    """
    width = sum(map(len, level_shapes))
    codebooks, first = [], 0
    for shape in level_shapes:
        places = np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), axis=-1)  # [K, d]
        half = np.array(shape) // 2
        codebook = np.zeros((len(places), width), np.float32)
        codebook[:, first : first + len(shape)] = (places - half) / half
        codebooks.append(codebook)
        first += len(shape)
    return codebooks
