"""The memory of a run before it is run: bytes a device of each array, from shapes alone.

Counted are the state, the gradients of its parameters, and the data that a step reads. What a step
computes in between, which grows with the batch, comes on top: the progress of a run tells the peak.
"""

import math
import re
from typing import NamedTuple

import jax

from genrec_jax import sharding, train_step


class Line(NamedTuple):
    """Arrays that differ in a number of their path alone, a layer's."""

    name: str  # with * for the number
    count: int
    shape: tuple[int, ...]
    dtype: str
    split: int | None  # the axis that is split over the devices of `model`
    bytes: int  # a device, of all of them


def arrays(config, state: dict, *, split: dict, whole: dict) -> list[Line]:
    """Returns the arrays of a run, the largest first.

    Args:
        config: whose `plan.num_devices` and `mesh` say which devices.
        state: shapes and types, see `state`.
        split: what a step reads beside it that lies as `sharding` says: arrays, or their shapes.
        whole: what it reads that every device has.

    Raises:
        UserError: if the mesh does not fit the devices.
    """
    mesh = sharding.sizes(**config.mesh.to_dict(), num_devices=config.plan.num_devices)
    by_rules = {"state": state, "gradients": state["params"], "data": split}
    lines: dict[tuple, Line] = {}
    for tree, num_parts in ((by_rules, mesh["model"]), ({"data": whole}, 1)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = sharding.name(path)
            spec = sharding.spec(name, leaf.shape, num_parts)
            axis = len(spec) - 1 if spec else None
            size = math.prod(leaf.shape) * leaf.dtype.itemsize // (num_parts if spec else 1)
            name = re.sub(r"/\d+(?=/)", "/*", name)
            key = name, leaf.shape, axis
            line = lines.get(key, Line(name, 0, leaf.shape, str(leaf.dtype), axis, 0))
            lines[key] = line._replace(count=line.count + 1, bytes=line.bytes + size)
    return sorted(lines.values(), key=lambda line: -line.bytes)


def state(model, tx, ema_decay: float, rules: train_step.Rules | None = None) -> dict:
    """Returns the shapes of a run's state; what k-means fills in does not change them."""
    return train_step.state_shapes(
        lambda rng, _: model.init(rng), tx, rules, ema_decay, jax.random.key(0), None
    )
