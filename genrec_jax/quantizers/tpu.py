"""The nearest codes on TPUs, by a kernel in Pallas.

All levels of a block of rows in one pass over memory, products in full precision. It was never run
on a TPU: tests interpret it on a CPU.

N rows   C code width   Q levels   K codebook size   R rows of a block
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

ROWS = 512  # R; rows lie along the lanes of the scores, so a multiple of 128
LARGEST = 2**21  # bytes of codebooks, which stay in the vector memory beside scores [K, R]


def residual_codes(
    x: jax.Array, codebooks: jax.Array, half_norms: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """Returns [Q, N] int32: at each level the code nearest to what is left of x.

    Args:
        x: [N, C] float32, N a multiple of 512.
        codebooks: [Q, K, C] float32, K a multiple of 8.
        half_norms: [Q, K] float32, |c|²/2; infinite for codes that are never chosen.
        interpret: whether to run on a CPU.
    """
    (num_rows, width), (num_levels, _, _) = x.shape, codebooks.shape
    return pl.pallas_call(
        _codes_of_a_block,
        grid=(num_rows // ROWS,),
        in_specs=[
            pl.BlockSpec((ROWS, width), lambda block: (block, 0)),
            pl.BlockSpec(codebooks.shape, lambda block: (0, 0, 0)),
            pl.BlockSpec((*half_norms.shape, 1), lambda block: (0, 0, 0)),
        ],
        out_specs=pl.BlockSpec((num_levels, ROWS), lambda block: (0, block)),
        out_shape=jax.ShapeDtypeStruct((num_levels, num_rows), jnp.int32),
        interpret=interpret,
    )(x, codebooks, half_norms[..., None])


def _codes_of_a_block(x_ref, codebooks_ref, half_norms_ref, ids_ref):
    left = x_ref[...]  # [R, C]
    product = functools.partial(lax.dot_general, precision=lax.Precision.HIGHEST)
    for level in range(codebooks_ref.shape[0]):
        codebook = codebooks_ref[level]  # [K, C]
        scores = product(codebook, left, (((1,), (1,)), ((), ()))) - half_norms_ref[level]  # [K, R]
        code = jnp.argmax(scores, axis=0).astype(jnp.int32)  # [R]
        ids_ref[level, :] = code
        number = lax.broadcasted_iota(jnp.int32, scores.shape, 0)
        one_hot = (number == code[None, :]).astype(left.dtype)
        left = left - product(one_hot, codebook, (((0,), (0,)), ((), ())))
