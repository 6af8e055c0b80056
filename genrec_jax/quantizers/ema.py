"""Codebooks as moving averages of what chose them, in place of gradients.

Q levels   K codebook size   C code width   B batch
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genrec_jax import lookup
from genrec_jax.quantizers.residual import Quantized

_LEAST = 1e-12  # of a count; a code that nobody chose for so long stays where it is


class Averages(NamedTuple):
    """For each code, shares of a batch: how many rows chose it, and what they sum to."""

    counts: jax.Array  # [Q, K]
    sums: jax.Array  # [Q, K, C]


def start(codebooks: jax.Array) -> Averages:
    """Returns the averages of codebooks [Q, K, C] whose codes are equally common."""
    share = 1 / codebooks.shape[1]
    return Averages(jnp.full(codebooks.shape[:2], share, codebooks.dtype), share * codebooks)


def observe(quantized: Quantized, codebook_size: int) -> Averages:
    """Returns what a batch adds, K being the size of the largest level."""
    batch_size = len(quantized.ids)
    levels = list(zip(quantized.ids.T, quantized.residuals, strict=True))
    counts = [jnp.bincount(ids, length=codebook_size) for ids, _ in levels]
    sums = [lookup.add_rows(ids, residuals, codebook_size) for ids, residuals in levels]
    averages = Averages(jnp.stack(counts).astype(sums[0].dtype), jnp.stack(sums))
    return jax.lax.stop_gradient(jax.tree.map(lambda leaf: leaf / batch_size, averages))


def update(
    codebooks: jax.Array, averages: Averages, observed: Averages, decay: float
) -> tuple[jax.Array, Averages]:
    """Returns the codebooks [Q, K, C] and their averages after one more batch.

    van den Oord et al., 2017, appendix A.1: N <- decay N + (1 - decay) n, and so with the sums m,
    whose quotient m / N is the codeword.
    """
    averages = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, averages, observed)
    counts = averages.counts[..., None]
    means = averages.sums / jnp.maximum(counts, _LEAST)
    return jnp.where(counts > _LEAST, means, codebooks), averages


def restart(codebooks: jax.Array, averages: Averages, is_reset: jax.Array) -> Averages:
    """Returns averages in which the codes of `is_reset` [Q, K] begin as their codewords."""
    return jax.tree.map(
        lambda new, old: jnp.where(
            is_reset.reshape(is_reset.shape + (1,) * (new.ndim - 2)), new, old
        ),
        start(codebooks),
        averages,
    )
