"""AdamW with clipping and a learning-rate schedule, all from the config."""

import jax
import jax.numpy as jnp
import optax

from genrec_jax.errors import UserError

SCHEDULES = ("constant", "cosine", "inverse_sqrt")
MINIMA = {"learning_rate": 0, "warmup_steps": 0, "weight_decay": 0, "clip_norm": 0}


def make(
    *,
    num_steps: int,
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    final_fraction: float,
    weight_decay: float,
    clip_norm: float,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimiser and its schedule (step -> learning rate).

    Args:
        num_steps: length of the run, for `cosine`.
        learning_rate: the highest.
        schedule: `constant`, `cosine` (down to `final_fraction` of the highest at the end), or
            `inverse_sqrt` (the highest times sqrt(warmup_steps / step)).
        warmup_steps: of a linear ramp from 0.
        final_fraction: see `cosine`.
        weight_decay: of every parameter, as in RQ-VAE-Recommender.
        clip_norm: largest norm of the whole gradient; 0 for none.
    """
    warmup = max(warmup_steps, 1)
    if schedule == "constant":
        decay = optax.constant_schedule(learning_rate)
    elif schedule == "cosine":
        decay = optax.cosine_decay_schedule(
            learning_rate, max(num_steps - warmup_steps, 1), final_fraction
        )
    elif schedule == "inverse_sqrt":

        def decay(step):  # join_schedules asks for steps before 0 too
            return learning_rate * (warmup / (warmup + jnp.maximum(step, 0))) ** 0.5

    else:
        raise UserError(f"unknown schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}")
    rate = decay
    if warmup_steps:
        ramp = optax.linear_schedule(0, learning_rate, warmup_steps)
        rate = optax.join_schedules([ramp, decay], [warmup_steps])
    tx = optax.adamw(rate, weight_decay=weight_decay)
    if clip_norm:
        tx = optax.chain(_clip_by_norm(clip_norm), tx)
    return tx, rate


def norm(tree) -> jax.Array:
    """Returns the square root of the sum of all squares, float32.

    Rows are summed first and then put together, which on a GPU is a kernel an array and one more;
    summed one by one each array takes two, and slow ones.
    """
    rows = [
        jnp.sum(jnp.square(jnp.atleast_1d(leaf).astype(jnp.float32)), axis=-1).ravel()
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(jnp.sum(jnp.concatenate(rows)))


def _clip_by_norm(limit: float) -> optax.GradientTransformation:
    """Scales gradients whose `norm` is above `limit` down to it."""

    def clip(grads, params):
        del params
        scale = jnp.minimum(1, limit / norm(grads))  # of a norm of 0 infinity, so 1
        return jax.tree.map(lambda leaf: (leaf * scale).astype(leaf.dtype), grads)

    return optax.stateless(clip)
