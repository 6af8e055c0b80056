"""SASRec (Kang and McAuley, 2018): a causal transformer over items that scores the next one.

Each item has one trained vector, which is both what the model reads and, tied, what it scores by.
Trained with the cross-entropy over the whole catalogue at every place of a history at once.

B batch   P past items   I items   D model width
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec_jax.lookup import take_rows
from genrec_jax.models import layers, transformer


class SASRec(nnx.Module):
    """See the module's docstring.

    Args:
        num_items: I.
        dim, num_heads, hidden_dim: widths of the layers; each head has `dim / num_heads`.
        num_layers: their number.
        activation: of the feed-forward layers, a key of `layers.ACTIVATIONS`.
        positions: one of `transformer.POSITIONS`.
        max_history: P, how many items it reads.
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
        positions: str,
        max_history: int,
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
            is_decoder=False,
            positions=positions,
            num_places=max_history,
            activation=activation,
            dropout=dropout,
            rngs=rngs,
        )
        self.dropout = dropout
        self.dtype = dtype

    def losses(
        self, items: jax.Array, mask: jax.Array, targets: jax.Array, rng: jax.Array | None = None
    ) -> jax.Array:
        """Returns [B, P]: the cross-entropy of each place's next item, 0 where `mask` is False.

        Args:
            items: [B, P] int32, oldest first, anything where `mask` is False.
            mask: [B, P] bool.
            targets: [B, P] int32, the item that follows each.
            rng: for dropout, None for none.
        """
        rngs = None if rng is None else nnx.Rngs(dropout=rng)
        logits = self._logits(self.states(items, mask, rngs))  # [B, P, I]
        # A sum rather than a look-up, whose gradient would be a scatter into all logits.
        is_target = targets[..., None] == jnp.arange(logits.shape[-1])
        chosen = jnp.sum(jnp.where(is_target, logits, 0), axis=-1)
        return jnp.where(mask, jax.nn.logsumexp(logits, axis=-1) - chosen, 0)

    def scores(self, items: jax.Array, mask: jax.Array) -> jax.Array:
        """Returns [B, I] float32: the log-probability that each item follows the history."""
        last = jnp.maximum(mask.sum(axis=1) - 1, 0)  # [B]
        states = jnp.take_along_axis(self.states(items, mask), last[:, None, None], axis=1)
        return jax.nn.log_softmax(self._logits(states)[:, 0])

    def states(self, items: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns [B, P, D]: what the model knows after each item."""
        items = jnp.where(mask, items, 0)
        x = take_rows(self.items[...], items) * self.items.shape[1] ** 0.5  # of unit variance
        x = jnp.where(mask[..., None], x, 0).astype(self.dtype)
        x = layers.dropout(self.stack.add_places(x), self.dropout, rngs)
        places = np.arange(x.shape[1])
        bias = self.stack.bias(places, places)
        sees = mask[:, None, None, :] & (places[:, None] >= places)  # [B, 1, P, P]
        for block in self.stack.blocks:
            x = block.attend_self(x, bias=bias, mask=sees, rngs=rngs)
            x = block.feed(x, rngs)
        return layers.dropout(self.stack.norm(x), self.dropout, rngs)

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
        max_history=config["max_history"],
        dtype=layers.dtype(config["dtype"]),
        **config["model"],
    )
