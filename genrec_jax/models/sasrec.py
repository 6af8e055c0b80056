"""SASRec (Kang and McAuley, 2018): a causal transformer over items that scores the next one.

Each item has one trained vector, which is both what the model reads and, tied, what it scores by.
Trained with the cross-entropy over the whole catalogue at every place of packed histories at once.

B rows    P places   I items   D model width
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from genrec_jax import losses
from genrec_jax.lookup import take_rows
from genrec_jax.models import layers, transformer


class SASRec(nnx.Module):
    """See the module's docstring.

    Args:
        num_items: I.
        dim, num_heads, hidden_dim: widths of the layers; each head has `dim / num_heads`.
        num_layers: their number.
        activation: of the feed-forward layers, a key of `layers.ACTIVATIONS`.
        dropout: rate on the inputs, on attention weights, on each layer's output, inside the
            feed-forward layers and on the last norm's output.
        dtype: of the computation. Parameters, norms, softmax and scores are float32.
    """

    def __init__(
        self,
        *,
        num_items: int,
        dim: int,
        num_heads: int,
        hidden_dim: int,
        num_layers: int,
        activation: str,
        dropout: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.items = layers.normal(rngs, (num_items, dim), dim**-0.5)
        self.stack = transformer.Stack(
            num_layers,
            dim,
            num_heads,
            dim // num_heads,
            hidden_dim,
            positions="relative",
            num_places=0,
            activation=activation,
            dropout=dropout,
            rngs=rngs,
        )
        self.dropout = dropout
        self.dtype = dtype

    def losses(
        self, items: jax.Array, segments: jax.Array, rng: jax.Array | None = None
    ) -> jax.Array:
        """Returns [B, P]: the cross-entropy of the item that follows each, 0 where none does.

        Args:
            items: [B, P] int32, oldest first, anything where there is none.
            segments: [B, P] int32 which of its row's histories each is of, below 0 for none.
            rng: for dropout, None for none.
        """
        rngs = None if rng is None else nnx.Rngs(dropout=rng)
        targets, has_target = losses.next_items(items, segments)
        logits = self._logits(self.states(items, segments, rngs))  # [B, P, I]
        return jnp.where(has_target, losses.smoothed_cross_entropy(logits, targets), 0)

    def scores(self, items: jax.Array, mask: jax.Array) -> jax.Array:
        """Returns [B, I] float32: the log-probability that each item follows the history.

        Args:
            items: [B, P] int32, oldest first, anything where `mask` is False.
            mask: [B, P] bool.
        """
        last = jnp.maximum(mask.sum(axis=1) - 1, 0)  # [B]
        states = self.states(items, jnp.where(mask, 0, -1))
        states = jnp.take_along_axis(states, last[:, None, None], axis=1)
        return jax.nn.log_softmax(self._logits(states)[:, 0])

    @jax.named_scope("encoder")
    def states(
        self, items: jax.Array, segments: jax.Array, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Returns [B, P, D]: what the model knows after each item."""
        there = segments >= 0
        x = take_rows(self.items[...].astype(self.dtype), jnp.where(there, items, 0))
        x *= self.items.shape[1] ** 0.5  # of unit variance
        x = layers.dropout(jnp.where(there[..., None], x, 0), self.dropout, rngs)
        x, _ = self.stack.read_packed(x, segments, rngs)
        return layers.dropout(x, self.dropout, rngs)

    @jax.named_scope("item_logits")
    def _logits(self, states: jax.Array) -> jax.Array:
        """[B, P, D] -> [B, P, I] float32."""
        items = self.items[...].astype(states.dtype)
        return jnp.einsum("BPD,ID->BPI", states, items, preferred_element_type=jnp.float32)


def model(**kwargs) -> layers.Model:
    """Returns the pure functions of a `SASRec` with these arguments."""
    return layers.functional(lambda rngs: SASRec(**kwargs, rngs=rngs))


def from_config(config: Mapping[str, Any], num_items: int) -> layers.Model:
    """Returns the model that configs/sasrec.py describes, for so many items."""
    return model(
        num_items=num_items,
        dtype=layers.dtype(config["dtype"]),
        **config["model"],
    )
