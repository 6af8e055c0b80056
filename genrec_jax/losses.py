"""Losses as pure functions, one value an example, nothing reduced over the batch."""

import jax
import jax.numpy as jnp


def reconstruction(x_hat: jax.Array, x: jax.Array) -> jax.Array:
    """Returns [B]: the squared error of x_hat [B, E], summed over the width.

    A mean over the width would weaken it against the quantisation loss until codebooks collapse.
    """
    return jnp.sum((x_hat - x) ** 2, axis=-1)


def quantization(residuals: jax.Array, codewords: jax.Array, commitment_weight: float) -> jax.Array:
    """Returns [B]: codebook and commitment losses of all levels (van den Oord et al., 2017).

    Args:
        residuals: [Q, B, C] what each level had to code.
        codewords: [Q, B, C] the codewords chosen for them.
        commitment_weight: beta, how much the residuals are drawn to their codewords beside the
            codewords to their residuals.
    """
    codebook = (jax.lax.stop_gradient(residuals) - codewords) ** 2
    commitment = (residuals - jax.lax.stop_gradient(codewords)) ** 2
    return jnp.sum(codebook + commitment_weight * commitment, axis=(0, 2))


def cross_entropy(logits: jax.Array, codes: jax.Array) -> jax.Array:
    """Returns [B]: -log softmax(logits [B, K])[codes [B]], in float32 at least."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    chosen = jnp.take_along_axis(logits, codes[:, None], axis=-1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen
