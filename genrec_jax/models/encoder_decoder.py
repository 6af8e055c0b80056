"""The T5-style encoder-decoder that reads a history as semantic IDs and generates the next one.

The encoder reads [user], then for each item its Q codes and [separator]; user and separator are
options. The decoder reads [start, code 0, ..., code Q-2]; its place h gives the logits of level h.
Layers are pre-norm without biases, one relative bias serves all layers of a stack (or learned
places are added to its inputs), nothing is scaled by sqrt(D), and each level has an output head of
its own, tied to nothing.

B batch   P past items   Q levels   K codebook size   W beams     N heads
          S encoder places          D model width     T queries   H head width
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec_jax import losses
from genrec_jax.lookup import take_rows
from genrec_jax.models import layers

# How attention knows the order of its inputs: by a bias for each distance (T5), or by a learned
# vector for each place, added to the inputs (as RQ-VAE-Recommender had before it moved to T5).
POSITIONS = ("relative", "learned")


class Memory(NamedTuple):
    """What the encoder hands to the decoder."""

    states: jax.Array  # [B, S, D]
    mask: jax.Array  # [B, S] bool


class Block(nnx.Module):
    """Self-attention, in a decoder cross-attention, feed-forward: each is norm, layer, add."""

    def __init__(
        self, dim, num_heads, head_dim, hidden_dim, *, is_decoder, activation, dropout, rngs
    ):
        def attention():
            return layers.Attention(dim, num_heads, head_dim, dropout=dropout, rngs=rngs)

        self.self_norm, self.self_attention = layers.RMSNorm(dim), attention()
        if is_decoder:
            self.cross_norm, self.cross_attention = layers.RMSNorm(dim), attention()
        self.feed_forward_norm = layers.RMSNorm(dim)
        self.feed_forward = layers.FeedForward(
            dim, hidden_dim, activation=activation, dropout=dropout, rngs=rngs
        )
        self.dropout = dropout

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

    def attend_memory(self, x, keys_values, memory_mask, rngs=None):
        """[B, T, D] -> [B, T, D]; in a search the T places are beams, which share the memory."""
        out = self.cross_attention.attend(
            self.cross_attention.queries(self.cross_norm(x)),
            keys_values,
            mask=memory_mask[:, None, None, :],
            rngs=rngs,
        )
        return x + layers.dropout(out, self.dropout, rngs)

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
        is_decoder,
        positions,
        num_places,
        rngs,
        **options,
    ):
        self.blocks = nnx.List(
            Block(dim, num_heads, head_dim, hidden_dim, is_decoder=is_decoder, rngs=rngs, **options)
            for _ in range(num_layers)
        )
        if positions == "relative":
            self.relative_bias = layers.RelativeBias(
                num_heads, bidirectional=not is_decoder, std=dim**-0.5, rngs=rngs
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

    def bias(self, query_places: np.ndarray, key_places: np.ndarray) -> jax.Array | None:
        return self.relative_bias(query_places, key_places) if self.is_relative else None


class EncoderDecoder(nnx.Module):
    """See the module's docstring.

    Args:
        level_sizes: how many codes each of the Q levels has.
        embedding_dim: width of the token table; unless it equals `dim`, a projection follows.
        dim, num_heads, head_dim, hidden_dim: widths of the layers.
        num_encoder_layers, num_decoder_layers: depths of the stacks.
        activation: of the feed-forward layers, a key of `layers.ACTIVATIONS`.
        positions: a key of `POSITIONS`.
        max_history: how many items the encoder reads, for learned places.
        dropout: rate on the inputs, on attention weights, on each layer's output, inside the
            feed-forward layers and on the last norms' outputs.
        use_separator: whether a learned token follows each item.
        num_user_bins: how many learned tokens users are hashed into; 0 for no user token.
        dtype: of the computation. Parameters, norms, softmax and logits are float32.
    """

    def __init__(
        self,
        *,
        level_sizes: tuple[int, ...],
        embedding_dim: int,
        dim: int,
        num_heads: int,
        head_dim: int,
        hidden_dim: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        activation: str,
        positions: str,
        max_history: int,
        dropout: float,
        use_separator: bool,
        num_user_bins: int,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        widths = (dim, num_heads, head_dim, hidden_dim)
        options = {"activation": activation, "positions": positions, "dropout": dropout}
        num_levels = len(level_sizes)
        self.encoder = Stack(
            num_encoder_layers,
            *widths,
            is_decoder=False,
            num_places=max_history * (num_levels + use_separator) + bool(num_user_bins),
            rngs=rngs,
            **options,
        )
        self.decoder = Stack(
            num_decoder_layers,
            *widths,
            is_decoder=True,
            num_places=num_levels,
            rngs=rngs,
            **options,
        )
        self.tokens = layers.normal(rngs, (sum(level_sizes), embedding_dim), 1.0)
        self.start = layers.normal(rngs, (1, embedding_dim), 1.0)
        if use_separator:
            self.separator = layers.normal(rngs, (1, embedding_dim), 1.0)
        if num_user_bins:
            self.users = layers.normal(rngs, (num_user_bins, embedding_dim), 1.0)
        if embedding_dim != dim:
            self.projection = layers.Linear(embedding_dim, dim, std=embedding_dim**-0.5, rngs=rngs)
        self.heads = nnx.List(
            layers.Linear(dim, size, std=dim**-0.5, rngs=rngs) for size in level_sizes
        )
        self.level_sizes = level_sizes
        self.num_user_bins = num_user_bins
        self.use_separator = use_separator
        self.has_projection = embedding_dim != dim
        self.dropout = dropout
        self.dtype = dtype

    def losses(
        self,
        codes: jax.Array,
        mask: jax.Array,
        targets: jax.Array,
        users: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        """Returns [B, Q]: the cross-entropy of each code of the targets [B, Q].

        `codes`, `mask` and `users` are those of `encode`; `rng` is for dropout, None for none.
        """
        rngs = None if rng is None else nnx.Rngs(dropout=rng)
        logits = self.decode(targets, self.encode(codes, mask, users, rngs), rngs)
        per_level = [
            losses.cross_entropy(level_logits, targets[:, level])
            for level, level_logits in enumerate(logits)
        ]
        return jnp.stack(per_level, axis=-1)

    def encode(
        self,
        codes: jax.Array,
        mask: jax.Array,
        users: jax.Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Memory:
        """Reads histories.

        Args:
            codes: [B, P, Q] int32 semantic IDs, oldest first, anything where `mask` is False.
            mask: [B, P] bool.
            users: [B] int32, needed if there are user tokens.
            rngs: with a `dropout` stream in training, None otherwise.
        """
        x, token_mask = self.encoder_inputs(codes, mask, users)
        x = layers.dropout(self.encoder.add_places(x), self.dropout, rngs)
        places = np.arange(x.shape[1])
        bias = self.encoder.bias(places, places)
        for block in self.encoder.blocks:
            x = block.attend_self(x, bias=bias, mask=token_mask[:, None, None, :], rngs=rngs)
            x = block.feed(x, rngs)
        return Memory(layers.dropout(self.encoder.norm(x), self.dropout, rngs), token_mask)

    def encoder_inputs(self, codes, mask, users=None) -> tuple[jax.Array, jax.Array]:
        """Returns the embedded tokens [B, S, D] and their mask [B, S]."""
        batch, past, num_levels = codes.shape
        x = self._embed(jnp.where(mask[..., None], codes, 0), np.arange(num_levels))  # [B, P, Q, D]
        if self.use_separator:
            separator = self._project(self.separator[...].astype(self.dtype))
            separator = jnp.broadcast_to(separator, (batch, past, 1, x.shape[-1]))
            x = jnp.concatenate([x, separator], axis=2)
        token_mask = jnp.repeat(mask, x.shape[2], axis=1)  # [B, P * (Q + 1)]
        x = x.reshape(batch, -1, x.shape[-1])  # merges items and their tokens
        if self.num_user_bins:
            user = take_rows(self.users[...], users % self.num_user_bins).astype(self.dtype)
            x = jnp.concatenate([self._project(user)[:, None], x], axis=1)
            token_mask = jnp.concatenate([jnp.ones((batch, 1), bool), token_mask], axis=1)
        return x, token_mask

    def decode(
        self, codes: jax.Array, memory: Memory, rngs: nnx.Rngs | None = None
    ) -> list[jax.Array]:
        """Returns each level's logits [B, K] float32, given the true codes [B, Q] before it."""
        x = self.decoder.add_places(self.decoder_inputs(codes))  # [B, Q, D]
        x = layers.dropout(x, self.dropout, rngs)
        places = np.arange(x.shape[1])
        bias = self.decoder.bias(places, places)
        causal = places[:, None] >= places
        for block in self.decoder.blocks:
            x = block.attend_self(x, bias=bias, mask=causal, rngs=rngs)
            keys_values = block.cross_attention.keys_values(memory.states)
            x = block.attend_memory(x, keys_values, memory.mask, rngs)
            x = block.feed(x, rngs)
        x = layers.dropout(self.decoder.norm(x), self.dropout, rngs)
        return [head(x[:, level].astype(jnp.float32)) for level, head in enumerate(self.heads)]

    def decoder_inputs(self, codes: jax.Array) -> jax.Array:
        """Returns [B, Q, D]: the start token and all codes [B, Q] but the last, embedded."""
        before = self._embed(codes[:, :-1], np.arange(codes.shape[1] - 1))
        return jnp.concatenate([self._start(len(codes)), before], axis=1)

    def start_search(self, memory: Memory) -> tuple[list, list]:
        """Returns what `search_step` needs: the layers' keys and values of the memory, and caches.

        The first is shared by all beams; each leaf of the caches is [B, W = 1, T = 0, N, H].
        """
        shared = [block.cross_attention.keys_values(memory.states) for block in self.decoder.blocks]
        empty = [
            tuple(jnp.zeros((len(part), 1, 0, *part.shape[2:]), part.dtype) for part in pair)
            for pair in shared
        ]
        return shared, empty

    def search_step(
        self, level: int, codes: jax.Array | None, caches: list, shared: list, mask: jax.Array
    ) -> tuple[jax.Array, list]:
        """Scores the codes of one level for every beam.

        Args:
            level: which, from 0.
            codes: [B, W] int32 codes chosen at the level before; None at level 0.
            caches: of the W beams, each leaf [B, W, level, N, H].
            shared: from `start_search`.
            mask: [B, S] of the memory.

        Returns:
            [B, W, K] float32 log-probabilities over all codes of the level, and the caches with
            one place more.
        """
        if level == 0:
            x = self._start(len(mask))
        else:
            x = self._embed(codes, level - 1)  # [B, W, D]
        # The beams are all at one place, so they stand where places would.
        x = self.decoder.add_places(x[..., None, :], first=level)[..., 0, :]
        bias = self.decoder.bias(np.array([level]), np.arange(level + 1))
        new_caches = []
        for block, cache, keys_values in zip(self.decoder.blocks, caches, shared, strict=True):
            x, cache = block.attend_cached(x, cache, bias=bias)
            x = block.attend_memory(x, keys_values, mask)
            x = block.feed(x)
            new_caches.append(cache)
        x = self.decoder.norm(x).astype(jnp.float32)
        return jax.nn.log_softmax(self.heads[level](x), axis=-1), new_caches

    def _embed(self, codes, levels) -> jax.Array:
        """Returns [..., D] for codes [...] of `levels`, which broadcasts with them."""
        offsets = np.concatenate([[0], np.cumsum(self.level_sizes)])[levels]
        return self._project(take_rows(self.tokens[...], codes + offsets).astype(self.dtype))

    def _start(self, batch: int) -> jax.Array:
        start = self._project(self.start[...].astype(self.dtype))
        return jnp.broadcast_to(start, (batch, 1, start.shape[-1]))

    def _project(self, x: jax.Array) -> jax.Array:
        return self.projection(x) if self.has_projection else x


def model(**kwargs) -> layers.Model:
    """Returns the pure functions of an `EncoderDecoder` with these arguments."""
    return layers.functional(lambda rngs: EncoderDecoder(**kwargs, rngs=rngs))


def from_config(config: Mapping[str, Any], level_sizes: Sequence[int]) -> layers.Model:
    """Returns the model that a retrieval config describes, for IDs with so many codes a level.

    `config["dtype"]` may be `auto`: bfloat16 on accelerators, float32 on CPUs.
    """
    dtype = config["dtype"]
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return model(
        level_sizes=tuple(level_sizes),
        max_history=config["max_history"],
        dtype=dtype,
        **config["model"],
    )


def with_codebook_tokens(params: dict, codebooks: Sequence[jax.Array], rng: jax.Array) -> dict:
    """Returns `params` whose token embeddings start from the codewords, Q arrays [K, C].

    A random rotation brings the codewords to the table's width, and one factor a level to the
    table's unit variance. Levels that have no codebook keep their random start.
    """
    code_dim = codebooks[0].shape[1]
    tokens = params["tokens"]
    rotation = jax.random.orthogonal(rng, max(code_dim, tokens.shape[1]))
    levels = [codebook @ rotation[:code_dim, : tokens.shape[1]] for codebook in codebooks]
    rows = jnp.concatenate([level / jnp.maximum(level.std(), 1e-6) for level in levels])
    return params | {"tokens": tokens.at[: len(rows)].set(rows.astype(tokens.dtype))}
