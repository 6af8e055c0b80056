"""The mesh, and what of a training step lies where on it.

Data parallel: parameters and the corpus on every device, the rows of a batch spread over the
axis `data`. `jit` inserts the sums over devices.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from genrec_jax.errors import UserError


def make_mesh() -> Mesh:
    """Returns the mesh of all devices of all processes."""
    # Auto: explicit axes, the newer default, reject lookups by sharded indices.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def one_device() -> Mesh:
    """Returns the mesh of the first device, for measurements."""
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def over_rows(mesh: Mesh, row_axis: int = 0) -> NamedSharding:
    """Returns the sharding of an array whose axis `row_axis` runs over a batch."""
    return NamedSharding(mesh, P(*[None] * row_axis, "data"))


def replicate(mesh: Mesh, tree):
    """Returns the tree of host arrays on every device of the mesh."""
    sharding = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree
    )


def shard_rows(mesh: Mesh, rows: np.ndarray, row_axis: int = 0) -> jax.Array:
    """Returns an array of all processes' rows, each process giving its own."""
    return jax.make_array_from_process_local_data(over_rows(mesh, row_axis), rows)


def check_batch_size(name: str, batch_size: int, accumulation: int = 1) -> None:
    """Raises UserError unless the devices can share the batch evenly."""
    parts = jax.device_count() * accumulation
    if batch_size < 1 or batch_size % parts:
        raise UserError(
            f"{name}={batch_size} cannot be split over {jax.device_count()} devices"
            + (f" and {accumulation} accumulated parts" if accumulation > 1 else "")
            + f": make it a multiple of {parts}"
        )
