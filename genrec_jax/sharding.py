"""The mesh, and what lies where on it: the one place that says so.

The devices are a grid of two axes. The rows of a batch are spread over `data`. Large arrays are
split over `model`, as `_RULES` says: tables, codebooks, a transformer's weights, and what the
optimiser keeps of them. All else lies on every device. `jit` inserts the exchange between them.

An axis that `model` does not divide stays whole, or the next axis of its rule is split;
`--config.plan.num_devices` prints what becomes of each array.
"""

import functools
import math
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from genrec_jax.errors import UserError

ALL = -1  # of an axis: all devices that are left
# The end of an array's path, and which of its axes may be split, the best first. Heads and hidden
# units are split as in Megatron-LM (Shoeybi et al., 2019): a layer ends with a sum over devices.
_RULES = (
    (r"(self|cross)_attention/(query|key|value)", (1,)),  # [D, N, H]
    (r"(self|cross)_attention/out", (0,)),  # [N, H, D]
    (r"feed_forward/up/kernel", (1,)),  # [D, F]
    (r"feed_forward/down/kernel", (0,)),  # [F, D]
    (r"(tokens|users|items)", (0, 1)),  # [V, D]
    (r"heads/\d+/kernel", (1,)),  # [D, K]
    (r"codebooks", (1,)),  # [Q, K, C]
    (r"embeddings", (1,)),  # [I, E]: by columns, so that a row is looked up without exchange
)


def sizes(data: int, model: int, num_devices: int) -> dict[str, int]:
    """Returns how many devices each axis has.

    Args:
        data, model: the settings `config.mesh.*`; one of them may be `ALL`.
        num_devices: which both axes together must use.

    Raises:
        UserError: if they do not.
    """
    given = f"--config.mesh.data={data} and --config.mesh.model={model}"
    if (data < 1 and data != ALL) or (model < 1 and model != ALL) or data == model == ALL:
        raise UserError(
            f"{given} must be 1 or more, and one of them may be -1 for all that is left"
        )
    known = math.prod(size for size in (data, model) if size != ALL)
    left = num_devices // known
    found = {"data": left if data == ALL else data, "model": left if model == ALL else model}
    if math.prod(found.values()) != num_devices:
        raise UserError(
            f"{given} do not share {num_devices} devices: let their product be {num_devices}, or "
            "one of them -1 and the other a divisor"
        )
    return found


def num_shards(data: int, model: int) -> int:
    """Returns into how many parts the mesh of all devices splits a batch; see `sizes`."""
    return sizes(data, model, jax.device_count())["data"]


def make_mesh(data: int = ALL, model: int = 1, devices: Sequence | None = None) -> Mesh:
    """Returns the mesh of the devices, all of all processes unless given; see `sizes`."""
    devices = jax.devices() if devices is None else devices
    shape = sizes(data, model, len(devices))
    # Auto: explicit axes, the newer default, reject lookups by sharded indices.
    types = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=types, devices=devices)


def one_device() -> Mesh:
    """Returns the mesh of the first device, for measurements."""
    return make_mesh(devices=jax.devices()[:1])


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def over_rows(mesh: Mesh, row_axis: int = 0) -> NamedSharding:
    """Returns the sharding of an array whose axis `row_axis` runs over a batch."""
    return NamedSharding(mesh, P(*[None] * row_axis, "data"))


def spec(path: str, shape: Sequence[int], num_parts: int) -> P:
    """Returns how an array with this path and shape is split into `num_parts` over `model`."""
    for pattern, axes in _RULES:
        if num_parts > 1 and re.search(rf"(^|/){pattern}$", path):
            for axis in axes:
                if shape[axis] % num_parts == 0:
                    return P(*[None] * axis, "model")
    return P()


def of_tree(mesh: Mesh, tree):
    """Returns the sharding of each array of a nested state, by its path and shape."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, spec(name(path), leaf.shape, mesh.shape["model"])),
        tree,
    )


def name(path) -> str:
    """Returns the keys of a path in a pytree, with slashes between them."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def constrain(mesh: Mesh, tree):
    """Returns the arrays of a tree, under `jit`, where they belong."""
    return jax.lax.with_sharding_constraint(tree, of_tree(mesh, tree))


def replicate(mesh: Mesh, tree):
    """Returns the tree of host arrays on every device of the mesh."""
    sharding = replicated(mesh)
    return jax.tree.map(lambda leaf: _put(sharding, np.asarray(leaf)), tree)


def put(mesh: Mesh, tree):
    """Returns the tree of host arrays, which all processes have whole, where they belong."""
    return jax.tree.map(_put, of_tree(mesh, tree), tree)


def _put(sharding: NamedSharding, whole: np.ndarray) -> jax.Array:
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def share_of_rows(mesh: Mesh) -> tuple[int, int]:
    """Returns which part of a batch's rows this process's devices have, and how many parts are.

    Processes among which arrays are split over `model` have the same part.

    Raises:
        UserError: if some processes have a part of another's rows and more.
    """
    rows_of = {device.process_index: set() for device in mesh.devices.flat}
    for row, devices in enumerate(mesh.devices):
        for device in devices:
            rows_of[device.process_index].add(row)
    parts = sorted({tuple(sorted(rows)) for rows in rows_of.values()})
    if sum(map(len, parts)) != len(mesh.devices):
        raise UserError(
            f"--config.mesh.model={mesh.shape['model']} splits arrays over parts of processes: "
            f"make it a divisor or a multiple of the {jax.local_device_count()} devices of each"
        )
    return parts.index(tuple(sorted(rows_of[jax.process_index()]))), len(parts)


def shard_rows(mesh: Mesh, tree, row_axis: int = 0):
    """Returns the tree with all processes' rows, of which each gives its `share_of_rows`."""
    return jax.make_array_from_process_local_data(over_rows(mesh, row_axis), tree)


def spread_rows(mesh: Mesh, tree):
    """Returns the tree of host arrays, which all processes have whole, with rows over the mesh."""
    return jax.tree.map(functools.partial(_put, over_rows(mesh)), tree)


def on_host(tree):
    """Returns the arrays of a tree as host arrays, whole, in every process.

    Of some the process's own devices may have a part alone; so all processes must call this.
    """

    def whole(leaf):
        is_here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        if is_here or leaf.is_fully_replicated:
            return jax.device_get(leaf)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(whole, tree)


def check_batch_size(name: str, batch_size: int, num_shards: int, accumulation: int = 1) -> None:
    """Raises UserError unless the shards, the mesh's axis `data`, can share it evenly."""
    parts = num_shards * accumulation
    if batch_size < 1 or batch_size % parts:
        raise UserError(
            f"{name}={batch_size} cannot be split over {num_shards} devices"
            + (f" and {accumulation} accumulated parts" if accumulation > 1 else "")
            + f": make it a multiple of {parts}"
        )
