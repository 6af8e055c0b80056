"""The training step, on a problem that trains in milliseconds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genrec_jax import sharding, train_step

NUM_SAMPLES, BATCH = 50, 8
X = np.random.default_rng(0).normal(size=(NUM_SAMPLES, 3)).astype(np.float32)
DATA = {"x": X, "y": X @ np.array([1.0, -2.0, 0.5], np.float32)}


def loss_fn(params, data, indices, step, rng):
    """Least squares with a dropout of inputs."""
    x = data["x"][indices]
    keep = jax.random.bernoulli(rng, 0.8, x.shape)
    error = (jnp.where(keep, x, 0) @ params["w"] - data["y"][indices]) ** 2
    return error.mean(), ({"kept": keep.mean()}, None)


def loss_without_dropout(params, data, indices, step, rng):
    error = (data["x"][indices] @ params["w"] - data["y"][indices]) ** 2
    return error.mean(), ({"largest": error.max()}, None)


def mesh_of(num_devices):
    return sharding.make_mesh(devices=jax.devices()[:num_devices])


def train_steps(loss, *, num_devices=1, accumulation=1, calls=((0, 6),)):
    """Trains six steps in calls of steps first..last; returns parameters and all metrics."""
    mesh, tx = mesh_of(num_devices), optax.adam(0.1)
    superbatch = np.random.default_rng(1).integers(0, NUM_SAMPLES, (6, BATCH)).astype(np.int32)
    train_superbatch = train_step.make_train_superbatch(
        loss, tx, mesh, accumulation=accumulation, ema_decay=0.0, rules=None
    )
    params = {"w": jnp.array([0.1, 0.2, 0.3])}
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.zeros((), jnp.int32)}
    state = jax.device_put(state, sharding.replicated(mesh))
    data = sharding.replicate(mesh, DATA)
    rng = jax.device_put(jax.random.key(0), sharding.replicated(mesh))
    history = []
    for first, last in calls:
        indices = sharding.shard_rows(mesh, superbatch[first:last], row_axis=1)
        state, metrics = train_superbatch(state, data, indices, rng)
        history.append(jax.device_get(metrics))
    assert int(state["step"]) == 6
    return np.asarray(state["params"]["w"]), history


def test_the_first_step_by_hand():
    mesh, tx = mesh_of(1), optax.sgd(0.5)
    data = {"x": jnp.array([[1.0], [3.0]]), "y": jnp.array([2.0, 0.0])}
    params = {"w": jnp.array([1.0])}
    state = {"params": params, "opt_state": tx.init(params), "step": jnp.zeros((), jnp.int32)}
    step = train_step.make_train_superbatch(
        loss_without_dropout, tx, mesh, accumulation=1, ema_decay=0.0, rules=None
    )
    state, metrics = step(state, data, jnp.array([[0, 1]]), jax.random.key(0))
    # Errors -1 and 3: the loss is (1 + 9) / 2, its gradient (2 * -1 * 1 + 2 * 3 * 3) / 2 = 8.
    assert metrics == {"loss": 5.0, "grad_norm": 8.0, "largest": 9.0, "losses": 5.0}
    np.testing.assert_array_equal(state["params"]["w"], [1.0 - 0.5 * 8.0])


def test_many_steps_a_call_equal_one_step_a_call():
    one_call, (means,) = train_steps(loss_fn)
    six_calls, history = train_steps(loss_fn, calls=[(n, n + 1) for n in range(6)])
    np.testing.assert_allclose(one_call, six_calls, rtol=1e-6)
    losses = [x.pop("losses").item() for x in history]
    np.testing.assert_allclose(means.pop("losses"), losses, rtol=1e-6)
    assert set(means) == {"loss", "grad_norm", "kept"}
    for name, mean in means.items():
        np.testing.assert_allclose(mean, np.mean([x[name] for x in history]), rtol=1e-6)


def test_each_step_draws_a_mask_of_its_own():
    _, history = train_steps(loss_fn, calls=[(n, n + 1) for n in range(6)])
    assert len({float(metrics["kept"]) for metrics in history}) > 3
    _, again = train_steps(loss_fn, calls=[(n, n + 1) for n in range(6)])
    assert jax.tree.map(np.ndarray.tolist, history) == jax.tree.map(np.ndarray.tolist, again)


def test_four_devices_equal_one():
    one, (metrics,) = train_steps(loss_fn)
    four, (metrics_of_four,) = train_steps(loss_fn, num_devices=4)
    np.testing.assert_allclose(four, one, rtol=1e-5)
    for name, value in metrics.items():
        np.testing.assert_allclose(metrics_of_four[name], value, rtol=1e-5)


@pytest.mark.parametrize("num_devices, accumulation", [(1, 4), (4, 2)])
def test_accumulated_parts_equal_one_batch(num_devices, accumulation):
    whole, (metrics,) = train_steps(loss_without_dropout)
    parts, (metrics_of_parts,) = train_steps(
        loss_without_dropout, num_devices=num_devices, accumulation=accumulation
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(metrics_of_parts[name], metrics[name], rtol=1e-5)


def test_accumulated_parts_draw_masks_of_their_own():
    def loss(params, data, indices, step, rng):
        return jnp.sum(params["w"]) * 0, ({"draw": jax.random.uniform(rng)}, None)

    _, whole = train_steps(loss, calls=[(n, n + 1) for n in range(6)])
    _, parts = train_steps(loss, accumulation=2, calls=[(n, n + 1) for n in range(6)])
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), n) for n in range(2)]
    expected = np.mean([jax.random.uniform(key) for key in keys])
    np.testing.assert_allclose(parts[0]["draw"], expected, rtol=1e-6)
    assert parts[0]["draw"] != whole[0]["draw"]
