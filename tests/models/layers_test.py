"""Layers shared by the models."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec_jax.models import layers


def test_params_go_out_and_in_as_a_plain_tree():
    model = layers.functional(lambda rngs: layers.Linear(2, 3, std=1.0, rngs=rngs))
    assert jax.tree.map(jnp.shape, model.init(jax.random.key(0))) == {"kernel": (2, 3)}
    params = {"kernel": jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])}
    y = jax.jit(lambda params, x: model.bind(params)(x))(params, jnp.array([[3.0, 4.0]]))
    np.testing.assert_array_equal(y, [[3.0, 4.0, 2.0]])


def test_binding_twice_shares_nothing():
    model = layers.functional(lambda rngs: layers.Linear(1, 1, std=1.0, rngs=rngs))
    first = model.bind({"kernel": jnp.array([[2.0]])})
    model.bind({"kernel": jnp.array([[5.0]])})
    assert float(first(jnp.ones((1, 1)))[0, 0]) == 2.0


def test_dropout_keeps_the_mean_and_needs_a_key():
    x = jnp.ones((200, 200))
    dropped = layers.dropout(x, 0.25, nnx.Rngs(dropout=0))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(float((dropped == 0).mean()) - 0.25) < 0.01  # 4.6 standard deviations
    np.testing.assert_array_equal(layers.dropout(x, 0.25, None), x)


def test_dropped_entries_depend_on_nothing_but_chance():
    shape, rate = (64, 3, 40, 50), 0.2
    masks = [np.asarray(layers.keep_mask(jax.random.key(n), rate, shape)) for n in range(4)]
    one, *others = [mask - (1 - rate) for mask in masks]
    variance, bound = rate * (1 - rate), 5 / one.size**0.5  # of correlations: 5 deviations
    assert abs(one.mean()) < bound * variance**0.5
    for axis in range(4):
        assert abs((one * np.roll(one, 1, axis)).mean()) < bound * variance
        rows = one.mean(axis=tuple(a for a in range(4) if a != axis))
        deviation = (variance * len(rows) / one.size) ** 0.5
        assert 0.7 * deviation < rows.std() < 1.4 * deviation or len(rows) == 3
    for other in others:
        assert abs((one * other).mean()) < bound * variance
    np.testing.assert_array_equal(masks[0], layers.keep_mask(jax.random.key(0), rate, shape))


def test_rms_norm():
    norm = layers.RMSNorm(2)
    norm.scale[...] = jnp.array([1.0, 2.0])
    # The root mean square of (3, 4) is sqrt(12.5).
    np.testing.assert_allclose(norm(jnp.array([3.0, 4.0])), np.array([3, 8]) / 12.5**0.5, rtol=1e-6)
    assert norm(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def attention(dim=2):
    layer = layers.Attention(dim, dim, 1, dim, dropout=0.0, rngs=nnx.Rngs(0))
    eye = jnp.eye(dim)
    for weights in (layer.query, layer.key, layer.value):
        weights[...] = eye[:, None, :]
    layer.out[...] = eye[None]
    return layer


def test_attention_is_a_softmax_of_unscaled_products():
    layer = attention()
    x = jnp.array([[[1.0, 0.0], [0.0, 2.0]]])
    out = layer.attend(layer.queries(x), layer.keys_values(x))
    # Scores of the first query: 1 and 0. Of the second: 0 and 4.
    first, second = np.exp([1.0, 0.0]), np.exp([0.0, 4.0])
    first, second = first / first.sum(), second / second.sum()
    expected = [[[first[0], 2 * first[1]], [second[0], 2 * second[1]]]]
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_masked_keys_have_no_weight_and_a_bias_adds_to_the_scores():
    layer = attention()
    x = jnp.array([[[1.0, 0.0], [0.0, 2.0]]])
    qkv = layer.queries(x), layer.keys_values(x)
    masked = layer.attend(*qkv, mask=jnp.array([[[[True, False]]]]))
    np.testing.assert_allclose(masked, [[[1.0, 0.0], [1.0, 0.0]]], rtol=1e-6)
    biased = layer.attend(*qkv, bias=jnp.array([[[0.0, 1.0], [0.0, -4.0]]]))
    np.testing.assert_allclose(biased, [[[0.5, 1.0], [0.5, 1.0]]], rtol=1e-6)


def test_a_query_that_sees_no_key_gives_finite_numbers():
    layer = attention()
    x = jnp.array([[[1.0, 0.0], [0.0, 2.0]]])
    out = layer.attend(layer.queries(x), layer.keys_values(x), mask=jnp.zeros((1, 1, 1, 2), bool))
    assert np.isfinite(out).all()


def test_near_distances_have_buckets_of_their_own_and_far_ones_share():
    def bucket(distance, bidirectional):
        return int(
            layers.relative_position_bucket(
                np.array(distance), bidirectional=bidirectional, num_buckets=32, max_distance=128
            )
        )

    # Both directions: 16 buckets each, 8 of them exact; keys after the query from 16 on.
    assert [bucket(d, True) for d in (0, -1, -7, 1, 7)] == [0, 1, 7, 17, 23]
    assert bucket(-8, True) == 8 and bucket(-15, True) == 9  # 8 + log(15/8) / log(16) * 8
    assert bucket(-128, True) == bucket(-5000, True) == 15
    # One direction: 16 exact, and what is to come falls into bucket 0.
    assert [bucket(d, False) for d in (0, -1, -15, 3)] == [0, 1, 15, 0]
    assert bucket(-127, False) == bucket(-4000, False) == 31


def test_relative_bias_reads_its_table():
    bias = layers.RelativeBias(2, bidirectional=False, std=1.0, rngs=nnx.Rngs(0))
    values = bias(np.array([3]), np.arange(4))
    np.testing.assert_allclose(values[:, 0], bias.table[...][jnp.array([3, 2, 1, 0])].T, rtol=1e-6)
