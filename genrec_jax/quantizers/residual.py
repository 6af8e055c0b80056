"""Residual vector quantisation: each level codes what the levels before it left over.

B batch   Q levels   K codebook size, which may differ between levels   C code width
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax.lookup import take_rows
from genrec_jax.quantizers import kernels, vector
from genrec_jax.quantizers.vector import nearest_codeword

RESIDUAL_GRADIENTS = ("estimator", "pass")
IMPLEMENTATIONS = ("auto", "xla")


class Quantized(NamedTuple):
    """The result of `residual_quantize`."""

    embedding: jax.Array  # [B, C] sum of the levels' outputs, with the estimator's gradients
    ids: jax.Array  # [B, Q] int32 codes, coarse to fine
    residuals: jax.Array  # [Q, B, C] what each level had to code
    codewords: jax.Array  # [Q, B, C] what it chose


def residual_quantize(
    x: jax.Array,
    codebooks: Sequence[jax.Array],
    *,
    estimator: str = "straight_through",
    distance: str = "euclidean",
    temperature: float | jax.Array = 1.0,
    uniform: jax.Array | None = None,
    balanced_levels: Sequence[int] = (),
    residual_gradient: str = "estimator",
    implementation: str = "auto",
) -> Quantized:
    """Quantises x level by level.

    Args:
        x: [B, C] encoder outputs.
        codebooks: Q arrays [K, C].
        estimator: see `vector.quantize`.
        distance: see there.
        temperature: see there.
        uniform: [Q, B, K] draws for the estimator `gumbel`, K as of the largest level.
        balanced_levels: which levels choose `balanced` codes, see `vector.choose`.
        residual_gradient: how much the losses of the levels after the first teach the encoder.
            `estimator`: what the estimator lets through, as in RQ-VAE-Recommender; of
            straight-through that is nothing, as x and its codeword change alike. `pass`: all.
        implementation: see `nearest_codes`.
    """
    if residual_gradient not in RESIDUAL_GRADIENTS:
        raise ValueError(f"residual_gradient must be one of {RESIDUAL_GRADIENTS}")
    is_nearest = estimator != "gumbel" and not balanced_levels
    if is_nearest:  # all levels' codes and codewords at once
        fixed = jax.lax.stop_gradient((x, list(codebooks)))
        nearest = nearest_codes(*fixed, distance, implementation)
        with jax.named_scope("lookup"):
            rows = jax.vmap(take_rows)(pad(codebooks), nearest.T)  # [Q, B, C]
    residual, embedding = x, jnp.zeros_like(x)
    ids, residuals, codewords = [], [], []
    for number, codebook in enumerate(codebooks):
        passing = x - jax.lax.stop_gradient(embedding)
        residuals.append(passing if residual_gradient == "pass" else residual)
        if is_nearest:
            output = vector.pass_gradients(residual, rows[number], estimator)
            level = vector.Level(output, nearest[:, number], rows[number])
        else:
            with jax.named_scope(f"level_{number}"):
                level = vector.quantize(
                    residual,
                    codebook,
                    estimator=estimator,
                    distance=distance,
                    temperature=temperature,
                    uniform=None if uniform is None else uniform[number, :, : len(codebook)],
                    balanced=number in balanced_levels,
                )
        ids.append(level.ids)
        codewords.append(level.codewords)
        residual = residual - level.output
        embedding = embedding + level.output
    return Quantized(embedding, jnp.stack(ids, axis=-1), jnp.stack(residuals), jnp.stack(codewords))


def nearest_codes(
    x: jax.Array,
    codebooks: Sequence[jax.Array],
    distance: str = "euclidean",
    implementation: str = "auto",
) -> jax.Array:
    """Returns [B, Q] int32: at each level the code nearest to what is left of x [B, C].

    Args:
        x: what to code.
        codebooks: Q arrays [K, C].
        distance: a key of `vector.DISTANCES`.
        implementation: one of `IMPLEMENTATIONS`. `auto` is the accelerator's own kernel where
            there is one, see `kernels`; `xla` is the same in XLA's operations.
    """
    if implementation == "auto" and distance == "euclidean":
        return kernels.nearest_codes(_nearest_codes, x, codebooks)
    return _nearest_codes(x, codebooks, distance)


def _nearest_codes(x, codebooks, distance="euclidean") -> jax.Array:
    ids = []
    for number, codebook in enumerate(codebooks):
        with jax.named_scope(f"level_{number}"):
            chosen = nearest_codeword(x, codebook, distance)
            ids.append(chosen)
            with jax.named_scope("lookup"):
                x = x - codebook[chosen]
    return jnp.stack(ids, axis=-1)


def reset_dead_codes(
    rng: jax.Array, x: jax.Array, codebooks: Sequence[jax.Array], distance: str = "euclidean"
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Returns Q codebooks [K, C] in which codes that no row of x [N, C] chose start anew.

    Such a code becomes what a random row leaves over at its level, so that this row chooses it
    (random restarts of Dhariwal et al., 2020), and the level after codes what is then left.

    Returns:
        codebooks: Q arrays [K, C].
        is_reset: Q arrays [K] bool.
    """
    renewed, is_reset = [], []
    for level_rng, codebook in zip(jax.random.split(rng, len(codebooks)), codebooks, strict=True):
        num_codes = len(codebook)
        counts = jnp.bincount(nearest_codeword(x, codebook, distance), length=num_codes)
        is_left = jnp.any(x != 0, axis=-1).astype(x.dtype)  # not wholly coded by the levels before
        rows = jax.random.choice(
            level_rng, len(x), (num_codes,), replace=len(x) < num_codes, p=is_left
        )
        codebook = jnp.where(counts[:, None] > 0, codebook, x[rows])
        renewed.append(codebook)
        is_reset.append(counts == 0)
        x = x - codebook[nearest_codeword(x, codebook, distance)]
    return renewed, is_reset


def pad(levels: Sequence[jax.Array]) -> jax.Array:
    """Returns [Q, K, ...] of Q arrays [K_q, ...], with zeros behind the shorter ones."""
    longest = max(len(level) for level in levels)
    padded = [
        jnp.pad(level, ((0, longest - len(level)),) + ((0, 0),) * (level.ndim - 1))
        for level in levels
    ]
    return jnp.stack(padded)


def unpad(levels: jax.Array, level_sizes: Sequence[int]) -> list[jax.Array]:
    """Returns the Q arrays [K_q, ...] that `pad` made [Q, K, ...] of."""
    return [level[:size] for level, size in zip(levels, level_sizes, strict=False)]
