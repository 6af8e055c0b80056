"""One network that generates the next item's semantic ID and scores all items densely.

An encoder reads a history item by item, each place seeing what is before it. Of what it knows after
an item, two heads predict the next one: a decoder generates its codes one by one, as in TIGER, and
a product with all items' vectors scores it, as in SASRec. Trained together (LIGER, Yang et al.,
2024, https://arxiv.org/abs/2411.18814), at every place of packed histories at once.

In training a second encoder reads the histories backwards and scores the item before each, by the
same items' vectors, so that these learn from both of an item's neighbours. Nothing else needs it.

An item's vector is a trained one of its own plus a projection of its content, so that an item that
training lacks has a vector too. Such items are no alternatives to the targets of training, so that
nothing pushes them away. The decoder's probabilities are those among the codes that lead to items.
Both heads learn from the data how likely an item is to come again.

B rows    P places   Q levels   K codes of a level   I items   E content width   W beams
N heads   H head width   T places that predict   D width of items and encoder   C of the decoder
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec_jax import losses
from genrec_jax.decoding.catalogue_tree import CatalogueTree
from genrec_jax.lookup import take_rows
from genrec_jax.models import layers, transformer

# The scalar of repeated items has a long way to go in small steps.
_REPEAT_SCALE = 10.0
_LEAST_LEFT = 1e-4  # of a code all of whose items a history has


class Catalogue(NamedTuple):
    """What the model reads of the items."""

    content: jax.Array  # [I, E] float32
    is_known: jax.Array  # [I] bool: those that training has
    tree: CatalogueTree


class Memory(NamedTuple):
    """What the encoder knows of histories, and what of it each place may use."""

    states: jax.Array  # [B, P, D]
    items: jax.Array  # [B, P] int32
    sees: jax.Array  # [B, T, P] bool

    def at(self, places: jax.Array) -> tuple[jax.Array, "Memory"]:
        """Returns the states [B, 1, D] of one place [B] a row, and what they may use."""
        places = places[:, None, None]
        state = jnp.take_along_axis(self.states, places, axis=1)
        return state, self._replace(sees=jnp.take_along_axis(self.sees, places, axis=1))


class Losses(NamedTuple):
    """Cross-entropies; 0 where there is nothing to predict."""

    items: jax.Array  # [B, P] of the item after each place, by its score
    backward: jax.Array  # [B, P] of the item before each place
    codes: jax.Array  # [B, P, Q] of the codes of the item after each place


class Hybrid(nnx.Module):
    """See the module's docstring.

    Args:
        num_items: I.
        content_dim: E.
        level_sizes: how many codes each of the Q levels has.
        encoder, decoder: what makes a stack of layers each: `dim` (D, C), `num_heads` of
            `dim / num_heads`, `hidden_dim` of the feed-forward layers, `num_layers`, and `dropout`,
            the rate on the inputs, on attention weights, on each layer's output, inside the
            feed-forward layers and on what the heads read.
        activation: of the feed-forward layers, a key of `layers.ACTIVATIONS`.
        item_dropout: share of the items that stand in a step for their content alone, so that the
            content learns to stand for items that training lacks.
        dtype: of the computation. Parameters, norms, softmax and scores are float32.
    """

    def __init__(
        self,
        *,
        num_items: int,
        content_dim: int,
        level_sizes: tuple[int, ...],
        encoder: Mapping[str, Any],
        decoder: Mapping[str, Any],
        activation: str,
        item_dropout: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        def stack(settings, **kwargs):
            dim, num_heads = settings["dim"], settings["num_heads"]
            return transformer.Stack(
                settings["num_layers"],
                dim,
                num_heads,
                dim // num_heads,
                settings["hidden_dim"],
                activation=activation,
                dropout=settings["dropout"],
                rngs=rngs,
                **kwargs,
            )

        dim, code_dim = encoder["dim"], decoder["dim"]
        self.items = layers.normal(rngs, (num_items, dim), dim**-0.5)
        self.content = layers.Linear(content_dim, dim, std=(content_dim * dim) ** -0.5, rngs=rngs)
        self.encoder = stack(encoder, positions="relative", num_places=0)
        self.backward_encoder = stack(encoder, positions="relative", num_places=0)
        self.repeat_bias = nnx.Param(jnp.zeros(()))
        self.from_state = layers.Linear(dim, code_dim, std=dim**-0.5, rngs=rngs)
        self.tokens = layers.normal(rngs, (sum(level_sizes), code_dim), 1.0)
        self.decoder = stack(
            decoder, positions="learned", num_places=len(level_sizes), memory_dim=dim
        )
        self.heads = nnx.List(
            layers.Linear(code_dim, size, std=code_dim**-0.5, rngs=rngs) for size in level_sizes
        )
        self.level_repeat_bias = nnx.Param(jnp.zeros(len(level_sizes)))
        self.level_sizes = level_sizes
        self.encoder_dropout = encoder["dropout"]
        self.decoder_dropout = decoder["dropout"]
        self.item_dropout = item_dropout
        self.dtype = dtype

    def losses(
        self,
        items: jax.Array,
        segments: jax.Array,
        catalogue: Catalogue,
        label_smoothing: float = 0.0,
        rng: jax.Array | None = None,
    ) -> Losses:
        """Returns the losses at every place of packed histories.

        Args:
            items: [B, P] int32, oldest first, anything where there is none.
            segments: [B, P] int32 which of its row's histories each is of, below 0 for none.
            catalogue: of the items.
            label_smoothing: the share of the target that all items have instead of the one that is
                to be predicted; codes have none, nor has the bias of repeats.
            rng: for dropout, None for none.
        """
        rngs = None if rng is None else nnx.Rngs(dropout=rng)
        vectors = self.vectors(catalogue, rngs)

        def score(memory):
            states = layers.dropout(memory.states, self.encoder_dropout, rngs)
            return states, _products(states, vectors)  # [B, P, D], [B, P, I]

        def cross_entropy(logits, targets):
            return losses.smoothed_cross_entropy(
                logits, targets, label_smoothing, where=catalogue.is_known
            )

        memory = self.encode(items, segments, vectors, rngs)
        states, logits = score(memory)
        targets, has_target = losses.next_items(items, segments)
        item_losses = cross_entropy(logits, targets)
        item_losses += self._repeat_losses(states, logits, targets, memory, vectors, catalogue)

        turned = items[:, ::-1], segments[:, ::-1]
        _, logits = score(self._read(self.backward_encoder, *turned, vectors, rngs))
        before, has_before = losses.next_items(*turned)
        backward = jnp.where(has_before, cross_entropy(logits, before), 0)

        codes = catalogue.tree.codes[targets]  # [B, P, Q]
        per_level = []
        for level, level_logits in enumerate(
            self.code_logits(memory.states, codes, memory, catalogue.tree, rngs)
        ):
            siblings = catalogue.tree.siblings[level][catalogue.tree.parents[targets, level]]
            siblings |= ~has_target[..., None]  # where there might be none, and no gradient then
            per_level.append(
                losses.smoothed_cross_entropy(level_logits, codes[..., level], where=siblings)
            )
        return Losses(
            jnp.where(has_target, item_losses, 0),
            backward[:, ::-1],
            jnp.where(has_target[..., None], jnp.stack(per_level, axis=-1), 0),
        )

    def vectors(self, catalogue: Catalogue, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns [I, D]: all items' vectors."""
        own = jnp.where(catalogue.is_known[:, None], self.items[...], 0)
        if rngs is not None and self.item_dropout:
            keep = layers.keep_mask(rngs.dropout(), self.item_dropout, (len(own), 1))
            own = jnp.where(keep, own, 0)
        return (own + self.content(catalogue.content)).astype(self.dtype)

    @jax.named_scope("encoder")
    def encode(
        self,
        items: jax.Array,
        segments: jax.Array,
        vectors: jax.Array,
        rngs: nnx.Rngs | None = None,
    ) -> Memory:
        """Reads histories; `items` and `segments` [B, P] are those of `losses`."""
        return self._read(self.encoder, items, segments, vectors, rngs)

    def item_logits(self, states: jax.Array, memory: Memory, vectors: jax.Array) -> jax.Array:
        """Returns [B, T, I] float32 for states [B, T, D], T the places of `memory.sees`."""
        had = jax.nn.one_hot(memory.items, len(vectors), dtype=states.dtype)  # [B, P, I]
        times = jnp.einsum("BTP,BPI->BTI", memory.sees.astype(states.dtype), had)
        return _products(states, vectors) + self._item_repeat_bias * jnp.minimum(times, 1)

    @jax.named_scope("decoder")
    def code_logits(
        self,
        states: jax.Array,
        codes: jax.Array,
        memory: Memory,
        tree: CatalogueTree,
        rngs: nnx.Rngs | None = None,
    ) -> list[jax.Array]:
        """Returns each level's logits [B, T, K] float32, given the true codes before it.

        Args:
            states: [B, T, D] of the places that predict.
            codes: [B, T, Q] int32.
            memory: whose `sees` is [B, T, P].
            tree: of the catalogue.
            rngs: for dropout, None for none.
        """
        batch, num_places, num_levels = codes.shape
        start = self.from_state(states)
        before = [start] + [self._embed(codes[..., i], i) + start for i in range(num_levels - 1)]
        x = self.decoder.add_places(jnp.stack(before, axis=2))  # [B, T, Q, C]
        x = layers.dropout(x, self.decoder_dropout, rngs)
        causal = np.tri(num_levels, dtype=bool)
        sees = jnp.repeat(memory.sees, num_levels, axis=1)[:, None]  # [B, 1, T * Q, P]
        for block in self.decoder.blocks:
            x = x.reshape(batch * num_places, num_levels, -1)
            x = block.attend_self(x, mask=causal, bias=None, rngs=rngs)
            x = x.reshape(batch, num_places * num_levels, -1)
            keys_values = block.cross_attention.keys_values(memory.states)
            x = block.attend_memory(x, keys_values, sees, rngs)
            x = block.feed(x, rngs)
        x = layers.dropout(self.decoder.norm(x), self.decoder_dropout, rngs)
        x = x.reshape(batch, num_places, num_levels, -1)
        return [
            self._level_logits(level, x[:, :, level], codes, memory, tree)
            for level in range(num_levels)
        ]

    def start_search(self, memory: Memory) -> tuple[list, tuple]:
        """Returns what `search_step` needs: the layers' keys and values of the memory, and a cache.

        The first is shared by all beams; the leaves of the second are [B, W = 1, ...].
        """
        shared = [block.cross_attention.keys_values(memory.states) for block in self.decoder.blocks]
        empty = [
            tuple(jnp.zeros((part.shape[0], 1, 0, *part.shape[2:]), part.dtype) for part in pair)
            for pair in shared
        ]
        return shared, (jnp.zeros((memory.items.shape[0], 1, 0), jnp.int32), empty)

    def search_step(
        self,
        level: int,
        codes: jax.Array | None,
        cache: tuple,
        *,
        state: jax.Array,
        shared: list,
        memory: Memory,
        tree: CatalogueTree,
    ) -> tuple[jax.Array, tuple]:
        """Returns the logits [B, W, K] of one level's codes for every beam, and the cache.

        Args:
            level: which, from 0.
            codes: [B, W] int32 codes chosen at the level before; None at level 0.
            cache: of the W beams: the codes before those [B, W, Q'], and keys and values.
            state: [B, 1, D] of the place that predicts.
            shared: from `start_search`.
            memory: whose `sees` is [B, 1, P].
            tree: of the catalogue.
        """
        prefix, keys_values = cache
        x = self.from_state(state)
        if level:
            prefix = jnp.concatenate([prefix, codes[..., None]], axis=-1)
            x = self._embed(codes, level - 1) + x  # [B, W, C]
        # The beams are all at one place, so they stand where places would.
        x = self.decoder.add_places(x[..., None, :], first=level)[..., 0, :]
        new = []
        for block, own, of_memory in zip(self.decoder.blocks, keys_values, shared, strict=True):
            x, own = block.attend_cached(x, own, bias=None)
            x = block.attend_memory(x, of_memory, memory.sees[:, None])
            x = block.feed(x)
            new.append(own)
        logits = self._level_logits(level, self.decoder.norm(x), prefix, memory, tree)
        return logits, (prefix, new)

    def _read(self, stack: transformer.Stack, items, segments, vectors, rngs) -> Memory:
        there = segments >= 0
        items = jnp.where(there, items, 0)
        x = take_rows(vectors, items) * vectors.shape[1] ** 0.5  # of unit variance
        x = layers.dropout(jnp.where(there[..., None], x, 0), self.encoder_dropout, rngs)
        states, sees = stack.read_packed(x, segments, rngs)
        return Memory(states, items, sees)

    @property
    def _item_repeat_bias(self) -> jax.Array:
        return _REPEAT_SCALE * self.repeat_bias[...]

    def _repeat_losses(self, states, logits, targets, memory, vectors, catalogue) -> jax.Array:
        """Returns [B, P]: what the repeats' bias adds to the losses of the items.

        Only the bias learns from it. Scores that may count on it learn less: the history's items
        are the negatives that are hardest to tell from the target (docs/recipes.md). With s the
        share of the probability that items of the history have, and r whether the target is one of
        them, it is log((1 - s) + s e^bias) - r bias.
        """
        places = np.arange(memory.items.shape[1])
        same = memory.items[:, :, None] == memory.items[:, None]  # [B, P, P]
        is_again = jnp.any(same & memory.sees & (places < places[:, None]), axis=-1)
        distinct = memory.sees & ~is_again[:, None]
        had = _products(states, take_rows(vectors, memory.items))  # [B, P, P]
        total = jax.nn.logsumexp(logits, axis=-1, where=catalogue.is_known)
        share = jnp.sum(jnp.where(distinct, jnp.exp(had - total[..., None]), 0), axis=-1)
        share = jax.lax.stop_gradient(jnp.minimum(share, 1))
        comes_again = jnp.any(memory.sees & (memory.items[:, None] == targets[..., None]), axis=-1)
        bias = self._item_repeat_bias
        # Finite, gradients too, if the share is 0 or 1.
        scaled = jnp.logaddexp(jnp.log1p(-share), jnp.log(share) + bias)
        return scaled - jnp.where(comes_again, bias, 0)

    def _level_logits(self, level: int, x, codes, memory: Memory, tree) -> jax.Array:
        """Returns [B, T, K] float32 for x [B, T, C], given codes [B, T, level or more].

        A code whose items the history has, all or in part, is the less likely the fewer are left,
        as far as the data say so.
        """
        logits = self.heads[level](x.astype(jnp.float32))
        past = tree.codes[memory.items]  # [B, P, Q]
        same = memory.sees
        for above in range(level):
            same = same & (codes[:, :, None, above] == past[:, None, :, above])
        size = self.level_sizes[level]
        had = jax.nn.one_hot(past[..., level], size) * tree.shares[memory.items, level, None]
        had = jnp.einsum("BTP,BPK->BTK", same.astype(had.dtype), had)
        left = jnp.maximum(1 - had, _LEAST_LEFT)
        return logits + self.level_repeat_bias[...][level] * jnp.log(left)

    def _embed(self, codes: jax.Array, level: int) -> jax.Array:
        """Returns [B, W, C] for codes [B, W] of a level."""
        offset = sum(self.level_sizes[:level])
        return take_rows(self.tokens[...].astype(self.dtype), codes + offset)


@jax.named_scope("item_logits")
def _products(states: jax.Array, vectors: jax.Array) -> jax.Array:
    """Returns [B, T, I] float32 for states [B, T, D] and vectors [I, D], or [B, I, D]."""
    rows = "ID" if vectors.ndim == 2 else "BID"
    return jnp.einsum(f"BTD,{rows}->BTI", states, vectors, preferred_element_type=jnp.float32)


def last_places(mask: jax.Array) -> jax.Array:
    """Returns [B]: the last place of each history where mask [B, P] is True, 0 of an empty one."""
    return jnp.maximum(mask.sum(axis=1) - 1, 0)


def model(**kwargs) -> layers.Model:
    """Returns the pure functions of a `Hybrid` with these arguments."""
    return layers.functional(lambda rngs: Hybrid(**kwargs, rngs=rngs))


def from_config(
    config: Mapping[str, Any], num_items: int, content_dim: int, level_sizes: Sequence[int]
) -> layers.Model:
    """Returns the model that configs/hybrid.py describes, for such items."""
    return model(
        num_items=num_items,
        content_dim=content_dim,
        level_sizes=tuple(level_sizes),
        dtype=layers.dtype(config["dtype"]),
        **config["model"],
    )
