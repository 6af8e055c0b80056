"""Residual vector quantisation: each level codes what the levels before it left over.

B batch   Q levels   K codebook size   C code width
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax.lookup import take_rows

RESIDUAL_GRADIENTS = ("stop", "pass")


class Quantized(NamedTuple):
    """The result of `residual_quantize`."""

    embedding: jax.Array  # [B, C] sum of the codewords; passes gradients straight to the input
    ids: jax.Array  # [B, Q] int32 codes, coarse to fine
    residuals: jax.Array  # [Q, B, C] what each level had to code
    codewords: jax.Array  # [Q, B, C] what it chose


def squared_distances(x: jax.Array, codebook: jax.Array) -> jax.Array:
    """Returns [B, K] squared Euclidean distances between x [B, C] and codebook [K, C].

    In full precision on every device: with TF32 or bfloat16 products one code in a hundred flips.
    """
    products = jnp.einsum("BC,KC->BK", x, codebook, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(x**2, axis=-1)[:, None] + jnp.sum(codebook**2, axis=-1) - 2 * products


def nearest_codeword(x: jax.Array, codebook: jax.Array) -> jax.Array:
    """Returns [B] int32: which row of codebook [K, C] is nearest to each row of x [B, C].

    Ties go to the lowest index.
    """
    return jnp.argmin(squared_distances(x, codebook), axis=-1).astype(jnp.int32)


def straight_through(x: jax.Array, x_q: jax.Array) -> jax.Array:
    """Returns `x_q` in the forward pass; passes gradients to `x` (Bengio et al., 2013)."""
    return x + jax.lax.stop_gradient(x_q - x)


def residual_quantize(
    x: jax.Array, codebooks: jax.Array, residual_gradient: str = "stop"
) -> Quantized:
    """Quantises x level by level.

    Args:
        x: [B, C] encoder outputs.
        codebooks: [Q, K, C].
        residual_gradient: what the encoder learns from the levels after the first. `stop`:
            nothing (straight-through inside the residual cancels it, as in RQ-VAE-Recommender).
            `pass`: each level's residual carries gradients to the encoder.
    """
    if residual_gradient not in RESIDUAL_GRADIENTS:
        raise ValueError(f"residual_gradient must be one of {RESIDUAL_GRADIENTS}")
    residual = x
    ids, residuals, codewords = [], [], []
    for codebook in codebooks:
        codes = nearest_codeword(residual, codebook)  # [B]
        codeword = take_rows(codebook, codes)  # [B, C]
        ids.append(codes)
        residuals.append(residual)
        codewords.append(codeword)
        residual = residual - jax.lax.stop_gradient(codeword)
        if residual_gradient == "stop":
            residual = jax.lax.stop_gradient(residual)
    codewords = jnp.stack(codewords)  # [Q, B, C]
    embedding = straight_through(x, codewords.sum(axis=0))
    return Quantized(embedding, jnp.stack(ids, axis=-1), jnp.stack(residuals), codewords)


def reset_dead_codes(rng: jax.Array, x: jax.Array, codebooks: jax.Array) -> jax.Array:
    """Returns codebooks [Q, K, C] in which codes that no row of x [N, C] chose start anew.

    Such a code becomes what a random row leaves over at its level, so that this row chooses it
    (random restarts of Dhariwal et al., 2020), and the level after codes what is then left.
    """
    num_codes = codebooks.shape[1]
    renewed = []
    for level_rng, codebook in zip(jax.random.split(rng, len(codebooks)), codebooks, strict=True):
        counts = jnp.bincount(nearest_codeword(x, codebook), length=num_codes)
        is_left = jnp.any(x != 0, axis=-1).astype(x.dtype)  # not wholly coded by the levels before
        rows = jax.random.choice(
            level_rng, len(x), (num_codes,), replace=len(x) < num_codes, p=is_left
        )
        codebook = jnp.where(counts[:, None] > 0, codebook, x[rows])
        renewed.append(codebook)
        x = x - codebook[nearest_codeword(x, codebook)]
    return jnp.stack(renewed)
