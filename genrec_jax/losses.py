"""Losses as pure functions, one value an example, nothing reduced over the batch."""

import jax
import jax.numpy as jnp


@jax.named_scope("loss")
def reconstruction(x_hat: jax.Array, x: jax.Array, num_categorical: int = 0) -> jax.Array:
    """Returns [B]: how much x_hat [B, E] differs from x [B, E], summed over the width.

    The squared error; of the last `num_categorical` columns, which are 0 or 1 in x and logits in
    x_hat, the binary cross-entropy. A mean over the width would weaken it against the quantisation
    loss until codebooks collapse.
    """
    split = x.shape[-1] - num_categorical
    squared = jnp.sum((x_hat[:, :split] - x[:, :split]) ** 2, axis=-1)
    if num_categorical == 0:
        return squared
    logits, labels = x_hat[:, split:], x[:, split:]
    cross_entropy = jax.nn.softplus(logits) - labels * logits
    return squared + jnp.sum(cross_entropy, axis=-1)


@jax.named_scope("loss")
def quantization(
    residuals: jax.Array,
    codewords: jax.Array,
    commitment_weight: float,
    codebook_weight: float = 1.0,
) -> jax.Array:
    """Returns [B]: codebook and commitment losses of all levels (van den Oord et al., 2017).

    Args:
        residuals: [Q, B, C] what each level had to code.
        codewords: [Q, B, C] the codewords chosen for them.
        commitment_weight: beta, how much the residuals are drawn to their codewords beside the
            codewords to their residuals.
        codebook_weight: of the latter; 0 for codewords that do not learn by gradients.
    """
    codebook = (jax.lax.stop_gradient(residuals) - codewords) ** 2
    commitment = (residuals - jax.lax.stop_gradient(codewords)) ** 2
    return jnp.sum(codebook_weight * codebook + commitment_weight * commitment, axis=(0, 2))


def next_items(items: jax.Array, segments: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the item after each of rows of histories [B, P], and whether there is one.

    `segments` [B, P] int32 tells of which of its row's histories each item is, below 0 of none.
    """
    has_next = (segments == jnp.roll(segments, -1, axis=1)) & (segments >= 0)
    return jnp.roll(items, -1, axis=1), has_next.at[:, -1].set(False)


@jax.named_scope("loss")
def smoothed_cross_entropy(
    logits: jax.Array, targets: jax.Array, smoothing: float = 0.0, where: jax.Array | None = None
) -> jax.Array:
    """Returns [...]: the cross-entropy of logits [..., I] to targets [...].

    `smoothing` is the share of a target that all I have in equal parts (Szegedy et al., 2016);
    those that are not `where`, broadcast to the logits, do not count. The target's logit is a sum
    rather than a look-up, whose gradient would be a scatter into all.
    """
    is_target = targets[..., None] == jnp.arange(logits.shape[-1])
    expected = jnp.sum(jnp.where(is_target, logits, 0), axis=-1)
    if smoothing:
        expected = (1 - smoothing) * expected + smoothing * logits.mean(axis=-1, where=where)
    return jax.nn.logsumexp(logits, axis=-1, where=where) - expected


@jax.named_scope("loss")
def cross_entropy(logits: jax.Array, codes: jax.Array) -> jax.Array:
    """Returns [B]: -log softmax(logits [B, K])[codes [B]], in float32 at least."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    chosen = jnp.take_along_axis(logits, codes[:, None], axis=-1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen
