"""The memory of a run, by hand."""

import jax
import jax.numpy as jnp
import optax
import pytest
from ml_collections import ConfigDict

from genrec_jax import plan
from genrec_jax.errors import UserError
from genrec_jax.models.layers import Model


def config(num_devices, **mesh):
    return ConfigDict(
        {"plan": {"num_devices": num_devices}, "mesh": {"data": -1, "model": 1} | mesh}
    )


def init(rng):
    blocks = {layer: {"feed_forward": {"up": {"kernel": jnp.ones((8, 16))}}} for layer in (0, 1)}
    return {"tokens": jnp.ones((6, 8)), "blocks": blocks, "scale": jnp.ones(8)}


def test_bytes_a_device_by_hand():
    state = plan.state(Model(init, None), optax.adam(0.1), ema_decay=0.9)
    data = {
        "split": {"embeddings": jax.ShapeDtypeStruct((1_000, 32), jnp.float32)},
        # Not the table of this name: of interactions, whose number no mesh need divide.
        "whole": {"items": jax.ShapeDtypeStruct((999,), jnp.int32)},
    }
    lines = {line.name: line for line in plan.arrays(config(8, model=2), state, **data)}
    assert lines["data/embeddings"] == ("data/embeddings", 1, (1_000, 32), "float32", 1, 64_000)
    name = "state/params/blocks/*/feed_forward/up/kernel"
    assert lines[name] == (name, 2, (8, 16), "float32", 1, 2 * 8 * 16 * 4 // 2)
    assert lines["state/ema/tokens"] == ("state/ema/tokens", 1, (6, 8), "float32", 0, 96)
    assert lines["data/items"] == ("data/items", 1, (999,), "int32", None, 999 * 4)
    assert lines["gradients/scale"].bytes == 32 and lines["gradients/scale"].split is None
    num_parameters = 6 * 8 + 2 * 8 * 16 + 8
    whole = sum(line.bytes for line in plan.arrays(config(8), state, **data))
    # Parameters, their gradients and averages, Adam's two moments, its count, and the step.
    assert whole == 5 * 4 * num_parameters + 4 + 4 + 1_000 * 32 * 4 + 999 * 4


def test_a_mesh_that_does_not_fit_is_refused():
    state = plan.state(Model(init, None), optax.adam(0.1), ema_decay=0.0)
    with pytest.raises(UserError, match="do not share 8 devices"):
        plan.arrays(config(8, model=3), state, split={}, whole={})
