"""AdamW or LAMB, with clipping and a learning-rate schedule, all from the config."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from genrec_jax.errors import UserError

NAMES = {"adamw": optax.adamw, "lamb": optax.lamb}
SCHEDULES = ("constant", "cosine", "inverse_sqrt")
MINIMA = {"learning_rate": 0, "warmup_steps": 0, "weight_decay": 0, "clip_norm": 0}


def make(
    *,
    name: str,
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
        name: `adamw`, or `lamb` for large batches: the update of each array is as long, relative to
            the learning rate, as the array itself (You et al., 2020,
            https://arxiv.org/abs/1904.00962).
        num_steps: length of the run, for `cosine`.
        learning_rate: the highest.
        schedule: `constant`, `cosine` (down to `final_fraction` of the highest at the end), or
            `inverse_sqrt` (the highest times sqrt(warmup_steps / step)).
        warmup_steps: of a linear ramp from 0.
        final_fraction: see `cosine`.
        weight_decay: of every parameter, as in RQ-VAE-Recommender.
        clip_norm: largest norm of the whole gradient; 0 for none.
    """
    if name not in NAMES:
        raise UserError(
            f"--config.optimizer.name={name!r} is unknown: choose one of {', '.join(NAMES)}"
        )
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
    tx = NAMES[name](rate, weight_decay=weight_decay)
    if clip_norm:
        tx = optax.chain(_clip_by_norm(clip_norm), tx)
    return tx, rate


class Clipped(NamedTuple):
    """The state of clipping."""

    grad_norm: jax.Array  # [] float32 of the whole gradient, before it was clipped


def grad_norm(grads, opt_state) -> jax.Array:
    """Returns the norm of the whole gradient: what clipping has found, if there is any."""
    found = optax.tree.get(opt_state, "grad_norm")
    return optax.tree.norm(grads) if found is None else found


def _clip_by_norm(limit: float) -> optax.GradientTransformation:
    """Scales gradients whose norm is above `limit` down to it."""

    def clip(grads, state, params=None):
        del state, params
        # Apart from what comes before: XLA for GPUs would make one slow kernel of the norm's sums
        # and of those that end a product.
        grads = jax.lax.optimization_barrier(grads)
        norm = _norm(grads)
        scale = jnp.minimum(1, limit / norm)  # of a norm of 0 infinity, so 1
        grads = jax.tree.map(lambda leaf: (leaf * scale).astype(leaf.dtype), grads)
        return grads, Clipped(norm)

    return optax.GradientTransformation(lambda params: Clipped(jnp.zeros(())), clip)


def _norm(tree) -> jax.Array:
    """Returns the square root of the sum of all squares, float32.

    Rows are summed first and then put together, which on a GPU is a kernel an array and one more;
    summed one by one each array takes two.
    """
    rows = [
        jnp.sum(jnp.square(jnp.atleast_1d(leaf).astype(jnp.float32)), axis=-1).ravel()
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(jnp.sum(jnp.concatenate(rows)))
