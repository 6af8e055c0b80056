"""Lookups and both of their gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax import lookup

TABLE = jnp.arange(12.0).reshape(4, 3)
IDS = jnp.array([[2, 0, 2], [2, 2, 1]])
WEIGHT = jax.random.normal(jax.random.key(0), (2, 3, 3))


def test_rows():
    np.testing.assert_array_equal(lookup.take_rows(TABLE, IDS), TABLE[IDS])


def test_gradient_is_that_of_indexing():
    ours = jax.grad(lambda table: jnp.sum(WEIGHT * lookup.take_rows(table, IDS)))(TABLE)
    plain = jax.grad(lambda table: jnp.sum(WEIGHT * table[IDS]))(TABLE)
    np.testing.assert_allclose(ours, plain, rtol=1e-6)
    assert not np.any(ours[3])  # nobody asked for row 3


def test_product_and_scatter_agree():
    ids, grad = IDS.reshape(-1), WEIGHT.reshape(-1, 3)
    product = lookup.add_rows_by_product(ids, grad, 4)
    scatter = lookup.add_rows_by_scatter(ids, grad, 4)
    np.testing.assert_allclose(product, scatter, rtol=1e-6)


def test_gradient_of_half_precision_is_summed_in_float32():
    table = jnp.zeros((1, 1), jnp.bfloat16)
    ids = jnp.zeros(1000, jnp.int32)
    grad = jax.grad(lambda t: lookup.take_rows(t, ids).sum().astype(jnp.float32))(table)
    assert float(grad[0, 0]) == 1000.0  # in bfloat16 the sum would stop at 256


def test_rows_that_move_and_their_gradient():
    source, sink = jnp.array([2, -1, 0]), jnp.array([2, -1, 0, -1])
    moved = lookup.move_rows(TABLE, source, sink)
    np.testing.assert_array_equal(moved, [TABLE[2], [0, 0, 0], TABLE[0]])
    weight = WEIGHT[0, :3]
    grad = jax.grad(lambda x: jnp.sum(weight * lookup.move_rows(x, source, sink)))(TABLE)
    np.testing.assert_array_equal(grad, [weight[2], [0, 0, 0], weight[0], [0, 0, 0]])
