"""Which kernel finds the nearest codes: that of the accelerator, or else XLA's operations.

Kernels take float32 and Euclidean distances. They choose what `residual.nearest_codes` chooses
but for near ties; where none serves, that is what runs, and tests hold them to it.

B rows   C code width   Q levels   K codebook size
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from genrec_jax.quantizers import tpu

Codes = Callable[[jax.Array, Sequence[jax.Array]], jax.Array]  # ([B, C], Q of [K, C]) -> [B, Q]


def nearest_codes(xla: Codes, x: jax.Array, codebooks: Sequence[jax.Array]) -> jax.Array:
    """Returns [B, Q] int32, by a kernel where one serves, and by `xla` elsewhere."""
    if x.dtype != jnp.float32:
        return xla(x, codebooks)
    of_platform = {}
    if is_hopper() and x.shape[1] <= 256:
        of_platform["cuda"] = lambda x, codebooks: _over_rows(_on_hopper)(x, *codebooks)
    if jax.default_backend() == "tpu" and _tpu_bytes(codebooks) <= tpu.LARGEST:
        of_platform["tpu"] = lambda x, codebooks: _over_rows(_on_tpu)(x, *codebooks)
    return jax.lax.platform_dependent(x, codebooks, default=xla, **of_platform)


def is_hopper() -> bool:
    """Whether the devices are Hopper GPUs and this JAX has what their kernels need."""
    if jax.default_backend() != "gpu" or jax.__version_info__ < (0, 11):
        return False
    return jax.local_devices()[0].compute_capability.startswith("9.")


def _on_hopper(x: jax.Array, *codebooks: jax.Array, interpret=False) -> jax.Array:
    """Returns [B, Q] int32: all levels in one kernel if they fit, or one kernel a level."""
    from genrec_jax.quantizers import hopper  # which older releases of JAX cannot import

    width = _padded_width(x.shape[1])
    size = -(-max(map(len, codebooks)) // 64) * 64
    blocks = 2 if interpret else jax.local_devices()[0].core_count
    many = -(-len(x) // hopper.ROWS) >= 3 * blocks  # rows for all, so that few share a codebook
    for warpgroups in (3, 2, 1) if many else (1,):
        taken = hopper.residual_bytes(len(codebooks), size, width, warpgroups)
        if width <= 64 and taken <= hopper.SHARED_MEMORY:
            tables, half_norms = _padded(codebooks, size, width)
            rows = _padded_rows(x, hopper.ROWS, width)
            options = {"warpgroups": warpgroups, "num_blocks": blocks, "interpret": interpret}
            return hopper.residual_codes(rows, tables, half_norms, **options)[:, : len(x)].T

    warpgroups = 3 if width <= 128 else 2
    stages = hopper.SHARED_MEMORY // hopper.nearest_bytes(width, warpgroups, 1)
    left = _padded_rows(x, warpgroups * hopper.ROWS, width)
    ids = []
    for codebook in codebooks:
        here = min(stages, 6, -(-len(codebook) // 64))
        size = -(-len(codebook) // (64 * here)) * 64 * here
        table, half_norms = _padded([codebook], size, width)
        options = {"warpgroups": warpgroups, "stages": here, "interpret": interpret}
        chosen = hopper.nearest_codes(left, table[0], half_norms[0], **options)
        ids.append(chosen[: len(x)])
        left = left - table[0][chosen]
    return jnp.stack(ids, axis=-1)


def _on_tpu(x: jax.Array, *codebooks: jax.Array, interpret: bool = False) -> jax.Array:
    """Returns [B, Q] int32."""
    size = -(-max(map(len, codebooks)) // 8) * 8
    tables, half_norms = _padded(codebooks, size, x.shape[1])
    rows = _padded_rows(x, tpu.ROWS, x.shape[1])
    return tpu.residual_codes(rows, tables, half_norms, interpret=interpret)[:, : len(x)].T


def _tpu_bytes(codebooks: Sequence[jax.Array]) -> int:
    # The last axis is padded to 128 lanes.
    width = -(-codebooks[0].shape[1] // 128) * 128
    return 4 * width * len(codebooks) * max(map(len, codebooks))


def _padded_width(width: int) -> int:
    """Returns the next width of which the matrix units can read rows."""
    return next((size for size in (16, 32, 64) if width <= size), -(-width // 64) * 64)


def _padded_rows(x: jax.Array, multiple: int, width: int) -> jax.Array:
    return jnp.pad(x, ((0, -len(x) % multiple), (0, width - x.shape[1])))


def _padded(codebooks: Sequence[jax.Array], size: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Returns [Q, size, width] and half the squared norms, infinite where nothing was."""
    tables, half_norms = [], []
    for codebook in codebooks:
        missing = size - len(codebook)
        tables.append(jnp.pad(codebook, ((0, missing), (0, width - codebook.shape[1]))))
        norms = jnp.sum(codebook**2, axis=-1) / 2
        half_norms.append(jnp.pad(norms, (0, missing), constant_values=jnp.inf))
    return jnp.stack(tables), jnp.stack(half_norms)


@functools.cache
def _over_rows(codes: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns `codes(x, *codebooks)`, which each device computes for its own rows of x."""

    @jax.named_scope("nearest_codes")
    def call(x, *codebooks):  # custom_partitioning takes no optional arguments
        return codes(x, *codebooks)

    split = custom_partitioning(call)

    def rows_of(mesh, arg_shapes) -> P:
        spec = arg_shapes[0].sharding.spec
        return P(spec[0] if spec else None, None)

    def infer(mesh, arg_shapes, result_shape):
        return NamedSharding(mesh, rows_of(mesh, arg_shapes))

    def partition(mesh, arg_shapes, result_shape):
        by_row = NamedSharding(mesh, rows_of(mesh, arg_shapes))
        whole = [NamedSharding(mesh, P(None, None)) for _ in arg_shapes[1:]]
        return mesh, call, by_row, (by_row, *whole)

    def rule(mesh, arg_types, result_types):
        tables = [f"k{number} c" for number in range(len(arg_types) - 1)]
        return f"{', '.join(['b c', *tables])} -> b q"

    split.def_partition(partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return split
