"""A training step, and many of them as one program.

B batch
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genrec_jax import optimizer, sharding

# (params, data, batch, step, rng) -> (loss, (metrics, observations)). A batch is numbers of
# samples, [B] or, packed, [G, R, M], or what was gathered of these, a tree of arrays.
LossFn = Callable[
    [Any, Any, Any, jax.Array, jax.Array], tuple[jax.Array, tuple[dict[str, jax.Array], Any]]
]
# (stored, numbers of samples) -> batch, by NumPy or by JAX, as the arrays in `stored` are
GatherFn = Callable[[Any, Any], Any]


class Rules(NamedTuple):
    """How the state changes beside the optimiser's updates; `stats` is a part of it for them."""

    start: Callable[[Any], Any]  # params -> stats
    # After each update: (params, stats, observations of the loss) -> (params, stats)
    after: Callable[[Any, Any, Any], tuple[Any, Any]]
    # Every so many steps, 0 for never: (params, stats, data, rng) -> (params, stats)
    renew: Callable[[Any, Any, Any, jax.Array], tuple[Any, Any]]
    renew_every: int


def gathering(gather: GatherFn, loss_fn: LossFn) -> LossFn:
    """Returns the loss of numbers of samples, which are gathered from `data` on the devices."""

    def loss(params, data, indices, step, rng):
        return loss_fn(params, data, gather(data, indices), step, rng)

    return loss


def make_train_superbatch(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    *,
    accumulation: int,
    ema_decay: float,
    rules: Rules | None,
    skip_nonfinite: bool = False,
):
    """Returns `train_superbatch(state, data, superbatch [steps, ...], rng) -> (state, metrics)`.

    The state is donated; the metrics are means over the steps, without those left out, and `losses`
    [steps], which are not finite where the loss or its gradient was not. Each batch is cut into
    `accumulation` parts, whose gradients, metrics and observations are averaged before the update.
    With `skip_nonfinite` a step whose loss or gradient is not finite changes nothing but the number
    of the step, and the metric `skipped` is the share of such steps. `train.fit` explains the rest.
    """

    gradients = jax.value_and_grad(loss_fn, has_aux=True)

    def accumulated_gradients(params, data, batch, step, rng):
        parts = jax.tree.map(lambda leaf: leaf.reshape(accumulation, -1, *leaf.shape[1:]), batch)
        parts = jax.lax.with_sharding_constraint(parts, sharding.over_rows(mesh, row_axis=1))
        first = jax.tree.map(lambda leaf: leaf[0], parts)

        def add(total, numbered_part):
            number, part = numbered_part
            one = gradients(params, data, part, step, jax.random.fold_in(rng, number))
            return jax.tree.map(jnp.add, total, one), None

        shapes = jax.eval_shape(gradients, params, data, first, step, rng)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, (jnp.arange(accumulation), parts))
        return jax.tree.map(lambda leaf: leaf / accumulation, total)

    def train_step(state, data, batch, rng):
        step, params, stats = state["step"], state["params"], state.get("stats")
        rng = jax.random.fold_in(rng, step)
        compute = gradients if accumulation == 1 else accumulated_gradients
        (loss, (metrics, observations)), grads = compute(params, data, batch, step, rng)
        with jax.named_scope("update"):
            updates, opt_state = tx.update(grads, state["opt_state"], params)
            params = optax.apply_updates(params, updates)
        if rules:
            params, stats = rules.after(params, stats, observations)
        metrics = {"loss": loss, "grad_norm": optimizer.grad_norm(grads, opt_state)} | metrics
        next_state = {"params": params, "opt_state": opt_state, "step": step + 1}
        if "stats" in state:
            next_state["stats"] = stats
        if ema_decay:
            # The first steps weigh little, so that the random start is soon forgotten.
            weight = 1 - jnp.minimum(ema_decay, (1 + step) / (10 + step))
            next_state["ema"] = optax.incremental_update(params, state["ema"], weight)
        if skip_nonfinite:
            is_finite = jnp.isfinite(loss) & jnp.isfinite(metrics["grad_norm"])
            choose = functools.partial(jnp.where, is_finite)
            next_state = jax.tree.map(choose, next_state, state | {"step": step + 1})
            metrics = {key: choose(value, jnp.nan) for key, value in metrics.items()}
            metrics["skipped"] = 1 - is_finite.astype(jnp.float32)
        return next_state, metrics

    # The metrics are on all devices, so that each process can read them.
    out_shardings = None, sharding.replicated(mesh)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=out_shardings)
    def train_superbatch(state, data, superbatch, rng):
        names = None

        def body(state, batch):
            nonlocal names
            state, metrics = train_step(state, data, batch, rng)
            names = tuple(metrics)
            return state, jnp.stack(list(metrics.values()))  # one array, so one kernel stores them

        state, metrics = jax.lax.scan(body, state, superbatch)  # [steps, metrics]
        means = jnp.nanmean(metrics, axis=0) if skip_nonfinite else metrics.mean(axis=0)
        of_steps = dict(zip(names, metrics.T, strict=True))
        losses = jnp.where(jnp.isfinite(of_steps["grad_norm"]), of_steps["loss"], jnp.nan)
        metrics = dict(zip(names, means, strict=True)) | {"losses": losses}
        return sharding.constrain(mesh, state), metrics

    return train_superbatch


def new_state(mesh, init, tx, rules: Rules | None, ema_decay: float, rng, data) -> dict:
    """Returns what a run starts from, where it belongs; `train.fit` explains the arguments."""
    places = sharding.of_tree(mesh, state_shapes(init, tx, rules, ema_decay, rng, data))
    make = functools.partial(_make_state, init, tx, rules, ema_decay)
    return jax.jit(make, out_shardings=places)(rng, data)


def abstract_state(mesh, init, tx, rules: Rules | None, ema_decay: float, rng, data) -> dict:
    """Returns shapes, types and places of what `new_state` returns, without computing it."""
    shapes = state_shapes(init, tx, rules, ema_decay, rng, data)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        sharding.of_tree(mesh, shapes),
    )


def state_shapes(init, tx, rules: Rules | None, ema_decay: float, rng, data) -> dict:
    """Returns shapes and types of what `new_state` returns."""
    return jax.eval_shape(functools.partial(_make_state, init, tx, rules, ema_decay), rng, data)


def _make_state(init, tx, rules: Rules | None, ema_decay: float, rng, data) -> dict:
    """Returns what a run starts from."""
    params = init(rng, data)
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.zeros((), jnp.int32)}
    stats = rules.start(params) if rules else None
    if jax.tree.leaves(stats):
        state["stats"] = stats
    return state | {"ema": params} if ema_decay else state


def averaged(state: dict) -> Any:
    """Returns the parameters that are evaluated and kept."""
    return state.get("ema", state["params"])
