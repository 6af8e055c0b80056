"""Rows of a trained table, without a scatter in the backward pass where scatters are slow.

The gradient of `table[ids]` adds rows at repeated places. On accelerators XLA's scatter-add is
serial enough to dominate a small training step, so there the same sum is a product with one-hot
rows, which the matrix units do in a fraction of the time. A CPU scatters fast and multiplies
slowly, so it keeps the scatter.
"""

import functools

import jax
import jax.numpy as jnp


@jax.custom_vjp
def take_rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Returns `table[ids]`, [..., D].

    Args:
        table: [V, D].
        ids: [...] int32 in 0..V-1.
    """
    return table[ids]


@jax.custom_vjp
def move_rows(x: jax.Array, source: jax.Array, sink: jax.Array) -> jax.Array:
    """Returns `x[source]`, and zeros where `source` is below 0.

    No row of x is taken twice, so the gradient is a look-up too: by `sink`, which tells where each
    row of x went, below 0 for nowhere.

    Args:
        x: [A, ...].
        source: [B] int32.
        sink: [A] int32.
    """
    return _rows_or_zeros(x, source)


def _rows_or_zeros(x, places):
    is_there = (places >= 0).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(is_there, x[jnp.maximum(places, 0)], 0)


move_rows.defvjp(
    lambda x, source, sink: (_rows_or_zeros(x, source), sink),
    lambda sink, grad: (_rows_or_zeros(grad, sink), None, None),
)


def _forward(table, ids):
    return table[ids], (table, ids)


def _backward(residuals, grad):
    table, ids = residuals  # only the table's shape and type are used
    table_grad = add_rows(ids.reshape(-1), grad.reshape(-1, grad.shape[-1]), len(table))
    return table_grad.astype(table.dtype), None


def add_rows(ids: jax.Array, rows: jax.Array, num_rows: int) -> jax.Array:
    """Returns [V, D] in float32 or wider: the sums of the rows [N, D] with equal ids [N]."""
    return jax.lax.platform_dependent(
        ids,
        rows,
        cpu=functools.partial(add_rows_by_scatter, num_rows=num_rows),
        default=functools.partial(add_rows_by_product, num_rows=num_rows),
    )


def add_rows_by_scatter(ids: jax.Array, rows: jax.Array, num_rows: int) -> jax.Array:
    """Returns what `add_rows` returns."""
    dtype = jnp.promote_types(rows.dtype, jnp.float32)
    return jnp.zeros((num_rows, rows.shape[1]), dtype).at[ids].add(rows)


def add_rows_by_product(ids: jax.Array, rows: jax.Array, num_rows: int) -> jax.Array:
    """Returns what `add_rows` returns."""
    dtype = jnp.promote_types(rows.dtype, jnp.float32)
    one_hot = (ids[:, None] == jnp.arange(num_rows)).astype(rows.dtype)
    # In full precision: TF32 would round float32 rows to 10 bits before they are added.
    return jnp.einsum(
        "NV,ND->VD",
        one_hot,
        rows,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=dtype,
    )


take_rows.defvjp(_forward, _backward)
