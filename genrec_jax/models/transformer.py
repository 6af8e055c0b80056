"""The transformer's blocks, of which all sequence models here are made.

Layers are pre-norm without biases, and nothing is scaled by sqrt(D). One relative bias serves all
layers of a stack, or learned places are added to its inputs.

B batch   T queries   S keys   W beams   N heads   H head width   D model width
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec_jax.lookup import move_rows
from genrec_jax.models import layers

# How attention knows the order of its inputs: by a bias for each distance (T5), or by a learned
# vector for each place, added to the inputs (as RQ-VAE-Recommender had before it moved to T5).
POSITIONS = ("relative", "learned")


class Slots(NamedTuple):
    """Which samples of a batch share which rows: G shards of B samples and R rows of M slots."""

    of_samples: jax.Array  # [G, B] int32 the slot of each sample in its shard
    of_slots: jax.Array  # [G, R, M] int32 the sample in each slot, below 0 for none

    @classmethod
    def of_shards(cls, is_there: jax.Array, shard_size: int) -> "Slots":
        """Numbers the `shard_size` slots of each shard in which a sample is: [G, R, M] bool."""
        flat = is_there.reshape(len(is_there), -1)
        of_slots = jnp.where(flat, jnp.cumsum(flat, axis=1, dtype=jnp.int32) - 1, -1)
        # The one slot of each sample: the first of the largest, as a sort would take longer.
        found = of_slots[:, None] == jnp.arange(shard_size)[:, None]
        of_samples = jnp.argmax(found, axis=-1).astype(jnp.int32)
        return cls(of_samples, of_slots.reshape(is_there.shape))

    def spread(self, x: jax.Array) -> jax.Array:
        """[G * B, T, ...] -> [G * R, M * T, ...], zeros where a slot is free."""
        shards, rows, most = self.of_slots.shape
        split = x.reshape(shards, -1, *x.shape[1:])
        moved = jax.vmap(move_rows)(split, self._flat_slots, self.of_samples)
        return moved.reshape(shards * rows, most * x.shape[1], *x.shape[2:])

    def collect(self, x: jax.Array) -> jax.Array:
        """[G * R, M * T, ...] -> [G * B, T, ...]."""
        shards, rows, most = self.of_slots.shape
        split = x.reshape(shards, rows * most, -1, *x.shape[2:])
        moved = jax.vmap(move_rows)(split, self.of_samples, self._flat_slots)
        return moved.reshape(-1, *moved.shape[2:])

    @property
    def _flat_slots(self) -> jax.Array:
        return self.of_slots.reshape(len(self.of_slots), -1)


class Block(nnx.Module):
    """Self-attention, in a decoder cross-attention, feed-forward: each is norm, layer, add.

    A decoder is what has a `memory_dim`, the width of what it looks at besides itself.
    """

    def __init__(
        self, dim, num_heads, head_dim, hidden_dim, *, memory_dim, activation, dropout, rngs
    ):
        def attention(width):
            return layers.Attention(dim, width, num_heads, head_dim, dropout=dropout, rngs=rngs)

        self.self_norm, self.self_attention = layers.RMSNorm(dim), attention(dim)
        if memory_dim:
            self.cross_norm, self.cross_attention = layers.RMSNorm(dim), attention(memory_dim)
        self.feed_forward_norm = layers.RMSNorm(dim)
        self.feed_forward = layers.FeedForward(
            dim, hidden_dim, activation=activation, dropout=dropout, rngs=rngs
        )
        self.dropout = dropout

    @jax.named_scope("self_attention")
    def attend_self(self, x, *, bias, mask=None, rngs=None):
        """[B, T, D] -> [B, T, D]."""
        normed = self.self_norm(x)
        out = self.self_attention.attend(
            self.self_attention.queries(normed),
            self.self_attention.keys_values(normed),
            bias=bias,
            mask=mask,
            rngs=rngs,
        )
        return x + layers.dropout(out, self.dropout, rngs)

    @jax.named_scope("self_attention")
    def attend_cached(self, x, cache, *, bias):
        """One place of W beams: x [B, W, D] looks at the cache and at itself.

        `cache` is two of [B, W, T, N, H], the keys and values of the places before; returned
        with the new place appended.
        """
        normed = self.self_norm(x)
        queries = self.self_attention.queries(normed)  # [B, W, N, H]
        new = self.self_attention.keys_values(normed)
        cache = tuple(
            jnp.concatenate([old, one[:, :, None]], axis=2)
            for old, one in zip(cache, new, strict=True)
        )
        merged = tuple(part.reshape(-1, *part.shape[2:]) for part in cache)  # merges B and W
        out = self.self_attention.attend(
            queries.reshape(-1, 1, *queries.shape[2:]), merged, bias=bias
        )
        return x + out.reshape(x.shape), cache

    @jax.named_scope("cross_attention")
    def attend_memory(self, x, keys_values, mask, rngs=None, slots=None):
        """[B, T, D] -> [B, T, D]; in a search the T places are beams, which share the memory.

        `mask` broadcasts to [B, N, T, S]; with `slots` the memory is of rows that the batch shares.
        """
        attention = self.cross_attention
        queries = attention.queries(self.cross_norm(x))
        if slots is not None:
            queries = slots.spread(queries)
        mixed = attention.mix(queries, keys_values, mask=mask, rngs=rngs)
        if slots is not None:
            mixed = slots.collect(mixed)
        return x + layers.dropout(attention.merge(mixed), self.dropout, rngs)

    @jax.named_scope("feed_forward")
    def feed(self, x, rngs=None):
        """[B, T, D] -> [B, T, D]."""
        out = self.feed_forward(self.feed_forward_norm(x), rngs)
        return x + layers.dropout(out, self.dropout, rngs)


class Stack(nnx.Module):
    """Blocks, what tells them the order of their inputs, and a last norm."""

    def __init__(
        self,
        num_layers,
        dim,
        num_heads,
        head_dim,
        hidden_dim,
        *,
        memory_dim=None,
        positions,
        num_places,
        rngs,
        **options,
    ):
        self.blocks = nnx.List(
            Block(dim, num_heads, head_dim, hidden_dim, memory_dim=memory_dim, rngs=rngs, **options)
            for _ in range(num_layers)
        )
        if positions == "relative":
            self.relative_bias = layers.RelativeBias(
                num_heads, bidirectional=not memory_dim, std=dim**-0.5, rngs=rngs
            )
        else:
            self.places = layers.normal(rngs, (num_places, dim), 1.0)
        self.is_relative = positions == "relative"
        self.norm = layers.RMSNorm(dim)

    def add_places(self, x: jax.Array, first: int = 0) -> jax.Array:
        """Returns x [..., T, D], whose places are `first` and following, knowing them."""
        if self.is_relative:
            return x
        return x + self.places[first : first + x.shape[-2]].astype(x.dtype)

    def read_packed(
        self, x: jax.Array, segments: jax.Array, rngs: nnx.Rngs | None
    ) -> tuple[jax.Array, jax.Array]:
        """Reads rows of several histories, none of whose places sees another or what is after it.

        Args:
            x: [B, T, D] inputs.
            segments: [B, T] int32 which of its row's histories each place is of, below 0 for none.
            rngs: for dropout, None for none.

        Returns:
            [B, T, D], and [B, T, T] bool: the places that each place sees.
        """
        places = np.arange(x.shape[1])
        sees = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] >= 0)
        sees &= places[:, None] >= places
        bias = self.bias(places, places)
        for block in self.blocks:
            x = block.attend_self(x, bias=bias, mask=sees[:, None], rngs=rngs)
            x = block.feed(x, rngs)
        return self.norm(x), sees

    def bias(self, query_places: np.ndarray, key_places: np.ndarray) -> jax.Array | None:
        return self.relative_bias(query_places, key_places) if self.is_relative else None
