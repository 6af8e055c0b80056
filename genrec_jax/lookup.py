"""Rows of a trained table, without a scatter in the backward pass where scatters are slow.

The gradient of `table[ids]` adds rows at repeated places. On accelerators XLA's scatter-add is
serial enough to dominate a small training step, so there the same sum is a product with one-hot
rows, which the matrix units do in a fraction of the time. A CPU scatters fast and multiplies
slowly, so it keeps the scatter.
"""

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


def _forward(table, ids):
    return table[ids], (table, ids)


def _backward(residuals, grad):
    table, ids = residuals  # only the table's shape and type are used
    dtype = jnp.promote_types(grad.dtype, jnp.float32)

    def scatter(ids, grad):
        return jnp.zeros(table.shape, dtype).at[ids].add(grad)

    def product(ids, grad):
        one_hot = (ids[:, None] == jnp.arange(len(table))).astype(grad.dtype)
        return jnp.einsum("BV,BD->VD", one_hot, grad, preferred_element_type=dtype)

    flat_grad = grad.reshape(-1, grad.shape[-1])
    table_grad = jax.lax.platform_dependent(
        ids.reshape(-1), flat_grad, cpu=scatter, default=product
    )
    return table_grad.astype(table.dtype), None


take_rows.defvjp(_forward, _backward)
