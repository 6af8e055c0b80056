"""The optimiser and its schedules."""

import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax import optimizer
from genrec_jax.errors import UserError

SETTINGS = {
    "name": "adamw",
    "num_steps": 110,
    "learning_rate": 2.0,
    "schedule": "constant",
    "warmup_steps": 10,
    "final_fraction": 0.1,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
}


@pytest.mark.parametrize(
    "schedule, at_60, at_110",
    [
        ("constant", 2.0, 2.0),
        ("cosine", 2.0 * (0.9 * 0.5 + 0.1), 0.2),
        ("inverse_sqrt", 2.0 * (10 / 60) ** 0.5, 2.0 * (10 / 110) ** 0.5),
    ],
)
def test_schedules(schedule, at_60, at_110):
    _, rate = optimizer.make(**SETTINGS | {"schedule": schedule})
    expected = [0.0, 1.0, 2.0, at_60, at_110]
    np.testing.assert_allclose([rate(s) for s in (0, 5, 10, 60, 110)], expected, rtol=1e-6)


def test_the_first_step_of_adamw():
    settings = SETTINGS | {"warmup_steps": 0, "learning_rate": 0.1, "weight_decay": 0.5}
    tx, _ = optimizer.make(**settings)
    params = jnp.array([2.0, -4.0])
    updates, _ = tx.update(jnp.array([3.0, -0.01]), tx.init(params), params)
    # Adam's first step is the sign of the gradient; decay is decoupled from it.
    expected = -0.1 * (np.array([1.0, -1.0]) + 0.5 * np.array([2.0, -4.0]))
    np.testing.assert_allclose(updates, expected, rtol=1e-4)


def test_the_first_step_of_lamb():
    settings = {"name": "lamb", "warmup_steps": 0, "learning_rate": 0.1, "weight_decay": 0.5}
    tx, _ = optimizer.make(**SETTINGS | settings)
    params = [jnp.array([2.0, -4.0]), jnp.array([0.0])]
    updates, _ = tx.update([jnp.array([3.0, -0.01]), jnp.array([2.0])], tx.init(params), params)
    # As AdamW's, (1, -1) + .5 (2, -4) = (2, -3), made as long as the parameters: sqrt(20 / 13).
    expected = -0.1 * np.sqrt(20 / 13) * np.array([2.0, -3.0])
    np.testing.assert_allclose(updates[0], expected, rtol=1e-3)
    np.testing.assert_allclose(updates[1], [-0.1], rtol=1e-3)  # of no length: as it is


def test_an_unknown_optimizer():
    with pytest.raises(UserError, match=r"optimizer.name='adam' is unknown: choose one of adamw"):
        optimizer.make(**SETTINGS | {"name": "adam"})


def test_clipping_scales_the_whole_gradient():
    """Adam forgets the scale of one gradient, so the second step tells the clipped ones apart."""
    tx, _ = optimizer.make(**SETTINGS | {"warmup_steps": 0, "clip_norm": 1.0})
    unclipped, _ = optimizer.make(**SETTINGS | {"warmup_steps": 0})
    params = jnp.zeros(2)
    large, small = jnp.array([30.0, 40.0]), jnp.array([0.3, 0.4])
    state = tx.init(params)
    _, state = tx.update(large, state, params)  # clipped to (0.6, 0.8)
    update, _ = tx.update(small, state, params)
    state = unclipped.init(params)
    _, state = unclipped.update(large / 50, state, params)
    expected, _ = unclipped.update(small, state, params)
    np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_small_gradients_are_not_clipped():
    """Nor is one of 0, whose scale would be infinite."""
    for gradient in ([0.3, 0.4], [0.0, 0.0]):
        states = []
        for clip_norm in (0.0, 1.0):
            tx, _ = optimizer.make(**SETTINGS | {"warmup_steps": 0, "clip_norm": clip_norm})
            update, _ = tx.update(jnp.array(gradient), tx.init(jnp.zeros(2)), jnp.zeros(2))
            states.append(update)
        np.testing.assert_array_equal(*states)


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_grad_norm_is_of_all_arrays_before_clipping(clip_norm):
    tx, _ = optimizer.make(**SETTINGS | {"clip_norm": clip_norm})
    grads = {"a": jnp.array([[1.0, 2.0], [4.0, 0.0]]), "b": jnp.array(-2.0)}
    _, state = tx.update(grads, tx.init(grads), grads)
    assert optimizer.grad_norm(grads, state) == 5.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(UserError, match="unknown schedule 'linear': choose one of constant"):
        optimizer.make(**SETTINGS | {"schedule": "linear"})
