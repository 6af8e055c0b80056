"""Layers that the models share, and the bridge from NNX modules to plain pytrees.

B batch     T queries   N heads        D model width
            S keys      H head width   F hidden width
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "silu": jax.nn.silu}
_MASKED = np.finfo(np.float32).min  # finite, so that a query that sees no key gives no NaN


class Model(NamedTuple):
    """An NNX module as two pure functions over a nested dict of arrays.

    A module that crosses a jit boundary loses its state without a word, so a module lives only
    inside the function that is jitted, where `bind(params)` makes it.
    """

    init: Callable[[jax.Array], dict]  # rng -> params
    bind: Callable[[dict], Any]  # params -> module


def functional(build: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """Returns the pure functions of the module that `build` makes; it may hold only `Param`s."""
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(rng):
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(rng))))

    def bind(params):
        state = jax.tree.map(lambda leaf: leaf, shapes)  # a copy: the next line writes into it
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graphdef, state)

    return Model(init, bind)


def dtype(name: str) -> str:
    """Returns the type of a name; that of `auto` is bfloat16 on accelerators, float32 on CPUs."""
    if name != "auto":
        return name
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float) -> nnx.Param:
    return nnx.Param(std * jax.random.normal(rngs.params(), shape))


def dropout(x: jax.Array, rate: float, rngs: nnx.Rngs | None) -> jax.Array:
    """Zeroes entries with chance `rate` and scales up the others; without `rngs`, nothing."""
    if rngs is None or rate == 0:
        return x
    return jnp.where(keep_mask(rngs.dropout(), rate, x.shape), x / (1 - rate), 0)


def keep_mask(rng: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """Returns a bool array, each entry False with chance `rate`.

    Entry i is a hash of i and the key: two rounds of multiply and xor-shift (constants of
    C. Wellons's lowbias32), ten operations. JAX's generator takes over a hundred, which XLA
    repeats in each pass that reads the mask: on a CPU that took as long as the rest of a step.
    """
    first_word, second_word = jax.random.bits(rng, (2,), jnp.uint32)
    strides = np.cumprod((1, *shape[:0:-1]), dtype=np.uint32)[::-1]
    number = sum(
        jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
        for axis, stride in enumerate(strides)
    )
    hashed = number + first_word
    hashed = (hashed ^ (hashed >> 16)) * np.uint32(0x7FEB352D)
    hashed = (hashed ^ (hashed >> 15) ^ second_word) * np.uint32(0x846CA68B)
    return hashed ^ (hashed >> 16) >= np.uint32(rate * 2**32)


class Linear(nnx.Module):
    """`x @ kernel` in the type of `x`; no bias."""

    def __init__(self, in_dim: int, out_dim: int, *, std: float, rngs: nnx.Rngs):
        self.kernel = normal(rngs, (in_dim, out_dim), std)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[...].astype(x.dtype)


class RMSNorm(nnx.Module):
    """Scales to root mean square 1, in float32; no mean, no bias (Zhang and Sennrich, 2019)."""

    def __init__(self, dim: int):
        self.scale = nnx.Param(jnp.ones(dim))

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32**2, axis=-1, keepdims=True) + 1e-6)
        return (normed * self.scale[...]).astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head attention without biases; N * H need not be D, nor the width of what is read.

    Scores are not divided by sqrt(H): T5 puts that factor into the initial queries.
    """

    def __init__(
        self,
        dim: int,
        memory_dim: int,
        num_heads: int,
        head_dim: int,
        *,
        dropout: float,
        rngs: nnx.Rngs,
    ):
        inner = (num_heads, head_dim)
        self.query = normal(rngs, (dim, *inner), (dim * head_dim) ** -0.5)
        self.key = normal(rngs, (memory_dim, *inner), memory_dim**-0.5)
        self.value = normal(rngs, (memory_dim, *inner), memory_dim**-0.5)
        self.out = normal(rngs, (num_heads, head_dim, dim), (num_heads * head_dim) ** -0.5)
        self.dropout = dropout

    def queries(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, N, H]."""
        return jnp.einsum("BTD,DNH->BTNH", x, self.query[...].astype(x.dtype))

    def keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, S, width of what is read] -> two of [B, S, N, H]."""
        keys = jnp.einsum("BSD,DNH->BSNH", x, self.key[...].astype(x.dtype))
        return keys, jnp.einsum("BSD,DNH->BSNH", x, self.value[...].astype(x.dtype))

    def attend(
        self, queries: jax.Array, keys_values: tuple[jax.Array, jax.Array], **options
    ) -> jax.Array:
        """Returns [B, T, D]: `mix`, with its options, then `merge`."""
        return self.merge(self.mix(queries, keys_values, **options))

    def mix(
        self,
        queries: jax.Array,
        keys_values: tuple[jax.Array, jax.Array],
        *,
        bias: jax.Array | None = None,
        mask: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Returns [B, T, N, H] means of the values.

        Args:
            queries: [B, T, N, H].
            keys_values: two of [B, S, N, H].
            bias: added to the scores, broadcast to [B, N, T, S].
            mask: True where a query may look, broadcast to [B, N, T, S].
            rngs: for dropout of the attention's weights.
        """
        keys, values = keys_values
        scores = jnp.einsum("BTNH,BSNH->BNTS", queries, keys, preferred_element_type=jnp.float32)
        if bias is not None:
            scores += bias
        if mask is not None:
            scores = jnp.where(mask, scores, _MASKED)
        weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        weights = dropout(weights, self.dropout, rngs)
        return jnp.einsum("BNTS,BSNH->BTNH", weights, values)

    def merge(self, mixed: jax.Array) -> jax.Array:
        """[B, T, N, H] -> [B, T, D]."""
        return jnp.einsum("BTNH,NHD->BTD", mixed, self.out[...].astype(mixed.dtype))


class FeedForward(nnx.Module):
    """`out(activation(in(x)))`."""

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: str, dropout: float, rngs: nnx.Rngs
    ):
        self.up = Linear(dim, hidden_dim, std=dim**-0.5, rngs=rngs)
        self.down = Linear(hidden_dim, dim, std=hidden_dim**-0.5, rngs=rngs)
        self.activation = activation
        self.dropout = dropout

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        hidden = ACTIVATIONS[self.activation](self.up(x))
        return self.down(dropout(hidden, self.dropout, rngs))


class RelativeBias(nnx.Module):
    """A learned bias for each head and distance between query and key (T5, section 2.1)."""

    NUM_BUCKETS, MAX_DISTANCE = 32, 128

    def __init__(self, num_heads: int, *, bidirectional: bool, std: float, rngs: nnx.Rngs):
        self.table = normal(rngs, (self.NUM_BUCKETS, num_heads), std)
        self.bidirectional = bidirectional

    def __call__(self, query_places: np.ndarray, key_places: np.ndarray) -> jax.Array:
        """Returns [N, T, S] float32 for places [T] of the queries and [S] of the keys."""
        distances = np.asarray(key_places)[None] - np.asarray(query_places)[:, None]
        buckets = relative_position_bucket(
            distances,
            bidirectional=self.bidirectional,
            num_buckets=self.NUM_BUCKETS,
            max_distance=self.MAX_DISTANCE,
        )
        # One-hot: the table's gradient is then a product rather than a scatter.
        one_hot = jax.nn.one_hot(buckets, self.NUM_BUCKETS, dtype=jnp.float32)
        return jnp.einsum(
            "TSR,RN->NTS", one_hot, self.table[...], precision=jax.lax.Precision.HIGHEST
        )


def relative_position_bucket(
    distances: np.ndarray, *, bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
    """Returns which bucket each distance (key place minus query place) falls into.

    Near distances have a bucket each, farther ones share buckets that widen with the logarithm,
    and all from `max_distance` on share the last. With `bidirectional` half of the buckets are
    for keys after the query; without it such keys fall into bucket 0.
    """
    offset = 0
    if bidirectional:
        num_buckets //= 2
        offset = np.where(distances > 0, num_buckets, 0)
        distances = np.abs(distances)
    else:
        distances = np.maximum(-distances, 0)
    num_exact = num_buckets // 2
    # In float32, as T5 computes it: the rounding decides at the edges.
    ratio = np.maximum(distances, 1).astype(np.float32) / np.float32(num_exact)
    scale = np.float32(np.log(max_distance / num_exact))
    far = num_exact + (np.log(ratio) / scale * (num_buckets - num_exact)).astype(np.int64)
    far = np.minimum(far, num_buckets - 1)
    return offset + np.where(distances < num_exact, distances, far)
