"""The T5-style encoder-decoder that reads a history as semantic IDs and generates the next one.

The encoder reads [user], then for each item its Q codes and [separator]; user and separator are
options. The decoder reads [start, code 0, ..., code Q-2]; its place h gives the logits of level h.
Each level has an output head of its own, tied to nothing.

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
from genrec_jax.models import layers, transformer


class Memory(NamedTuple):
    """What the encoder hands to the decoder."""

    states: jax.Array  # [B, S, D]
    mask: jax.Array  # [B, S] bool; of rows that samples share, [R, 1, M * Q, S]
    slots: transformer.Slots | None = None  # where the samples are, if they share rows


class EncoderDecoder(nnx.Module):
    """See the module's docstring.

    Args:
        level_sizes: how many codes each of the Q levels has.
        embedding_dim: width of the token table; unless it equals `dim`, a projection follows.
        dim, num_heads, head_dim, hidden_dim: widths of the layers.
        num_encoder_layers, num_decoder_layers: depths of the stacks.
        activation: of the feed-forward layers, a key of `layers.ACTIVATIONS`.
        positions: one of `transformer.POSITIONS`.
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
        self.encoder = transformer.Stack(
            num_encoder_layers,
            *widths,
            num_places=max_history * (num_levels + use_separator) + bool(num_user_bins),
            rngs=rngs,
            **options,
        )
        self.decoder = transformer.Stack(
            num_decoder_layers,
            *widths,
            memory_dim=dim,
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
        return self._losses(targets, self.encode(codes, mask, users, rngs), rngs)

    def packed_losses(
        self,
        codes: jax.Array,
        segments: jax.Array,
        slots: transformer.Slots,
        targets: jax.Array,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        """Returns what `losses` does, of histories that share rows; no user tokens, no places.

        Args:
            codes: [R, L, Q] int32 semantic IDs of rows, of all shards.
            segments: [R, L] int32 the slot whose item each place holds; M where there is none.
            slots: where the samples are.
            targets: [B, Q].
            rng: for dropout, None for none.
        """
        rngs = None if rng is None else nnx.Rngs(dropout=rng)
        most = slots.of_slots.shape[-1]
        x, _ = self.encoder_inputs(codes, segments < most)
        segments = jnp.repeat(segments, x.shape[1] // codes.shape[1], axis=1)  # [R, S]
        states = self._read(x, segments[:, None, :, None] == segments[:, None, None], rngs)
        looks = jnp.arange(most)[:, None] == segments[:, None]  # [R, M, S]
        looks = jnp.repeat(looks, targets.shape[1], axis=1)[:, None]  # [R, 1, M * Q, S]
        return self._losses(targets, Memory(states, looks, slots), rngs)

    def _losses(self, targets, memory, rngs) -> jax.Array:
        per_level = [
            losses.cross_entropy(level_logits, targets[:, level])
            for level, level_logits in enumerate(self.decode(targets, memory, rngs))
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
        return Memory(self._read(x, token_mask[:, None, None], rngs), token_mask)

    @jax.named_scope("encoder")
    def _read(self, x, mask, rngs) -> jax.Array:
        """[B, S, D] -> [B, S, D]; `mask` broadcasts to [B, N, S, S]."""
        x = layers.dropout(self.encoder.add_places(x), self.dropout, rngs)
        places = np.arange(x.shape[1])
        bias = self.encoder.bias(places, places)
        for block in self.encoder.blocks:
            x = block.attend_self(x, bias=bias, mask=mask, rngs=rngs)
            x = block.feed(x, rngs)
        return layers.dropout(self.encoder.norm(x), self.dropout, rngs)

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
            user = take_rows(self.users[...].astype(self.dtype), users % self.num_user_bins)
            x = jnp.concatenate([self._project(user)[:, None], x], axis=1)
            token_mask = jnp.concatenate([jnp.ones((batch, 1), bool), token_mask], axis=1)
        return x, token_mask

    @jax.named_scope("decoder")
    def decode(
        self, codes: jax.Array, memory: Memory, rngs: nnx.Rngs | None = None
    ) -> list[jax.Array]:
        """Returns each level's logits [B, K] float32, given the true codes [B, Q] before it."""
        x = self.decoder.add_places(self.decoder_inputs(codes))  # [B, Q, D]
        x = layers.dropout(x, self.dropout, rngs)
        places = np.arange(x.shape[1])
        bias = self.decoder.bias(places, places)
        causal = places[:, None] >= places
        mask = memory.mask[:, None, None] if memory.slots is None else memory.mask
        for block in self.decoder.blocks:
            x = block.attend_self(x, bias=bias, mask=causal, rngs=rngs)
            keys_values = block.cross_attention.keys_values(memory.states)
            x = block.attend_memory(x, keys_values, mask, rngs, memory.slots)
            x = block.feed(x, rngs)
        x = layers.dropout(self.decoder.norm(x), self.dropout, rngs)
        with jax.named_scope("heads"):
            return [head(x[:, level].astype(jnp.float32)) for level, head in enumerate(self.heads)]

    def decoder_inputs(self, codes: jax.Array) -> jax.Array:
        """Returns [B, Q, D]: the start token and all codes [B, Q] but the last, embedded."""
        before = self._embed(codes[:, :-1], np.arange(codes.shape[1] - 1))
        return jnp.concatenate([self._start(codes.shape[0]), before], axis=1)

    def start_search(self, memory: Memory) -> tuple[list, list]:
        """Returns what `search_step` needs: the layers' keys and values of the memory, and caches.

        The first is shared by all beams; each leaf of the caches is [B, W = 1, T = 0, N, H].
        """
        shared = [block.cross_attention.keys_values(memory.states) for block in self.decoder.blocks]
        empty = [
            tuple(jnp.zeros((part.shape[0], 1, 0, *part.shape[2:]), part.dtype) for part in pair)
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
            x = self._start(mask.shape[0])
        else:
            x = self._embed(codes, level - 1)  # [B, W, D]
        # The beams are all at one place, so they stand where places would.
        x = self.decoder.add_places(x[..., None, :], first=level)[..., 0, :]
        bias = self.decoder.bias(np.array([level]), np.arange(level + 1))
        new_caches = []
        for block, cache, keys_values in zip(self.decoder.blocks, caches, shared, strict=True):
            x, cache = block.attend_cached(x, cache, bias=bias)
            x = block.attend_memory(x, keys_values, mask[:, None, None])
            x = block.feed(x)
            new_caches.append(cache)
        x = self.decoder.norm(x).astype(jnp.float32)
        return jax.nn.log_softmax(self.heads[level](x), axis=-1), new_caches

    def _embed(self, codes, levels) -> jax.Array:
        """Returns [..., D] for codes [...] of `levels`, which broadcasts with them."""
        offsets = np.concatenate([[0], np.cumsum(self.level_sizes)])[levels]
        return self._project(take_rows(self.tokens[...].astype(self.dtype), codes + offsets))

    def _start(self, batch: int) -> jax.Array:
        start = self._project(self.start[...].astype(self.dtype))
        return jnp.broadcast_to(start, (batch, 1, start.shape[-1]))

    def _project(self, x: jax.Array) -> jax.Array:
        return self.projection(x) if self.has_projection else x


def model(**kwargs) -> layers.Model:
    """Returns the pure functions of an `EncoderDecoder` with these arguments."""
    return layers.functional(lambda rngs: EncoderDecoder(**kwargs, rngs=rngs))


def from_config(config: Mapping[str, Any], level_sizes: Sequence[int]) -> layers.Model:
    """Returns the model that a retrieval config describes, for IDs with so many codes a level."""
    return model(
        level_sizes=tuple(level_sizes),
        max_history=config["max_history"],
        dtype=layers.dtype(config["dtype"]),
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
