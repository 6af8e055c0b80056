"""The probabilities of given items, where a beam search finds those of the best ones.

B batch   C candidates   K codes of a level   M candidates of a prefix
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from genrec_jax.decoding import prefix_index
from genrec_jax.decoding.prefix_index import PrefixIndex


def log_probs(index: PrefixIndex, logits: Sequence[jax.Array], items: jax.Array) -> jax.Array:
    """Returns [B, C] float32: each item's log-probability among all items of the index.

    Args:
        index: the catalogue's prefixes; -inf is returned for items that it lacks.
        logits: of each level [B, C, K], given the item's codes before. Only those of codes that
            lead to an item of the index count, as with `renormalize` in `beam_search`.
        items: [B, C] int32.
    """
    place = index.rank[items]  # [B, C] among the sorted items
    total = jnp.zeros(items.shape, jnp.float32)
    nodes = jnp.zeros(items.shape, jnp.int32)
    for level, level_logits in enumerate(logits):
        found = prefix_index.candidates(index, level, nodes, level_logits)
        child, is_valid, scores = found  # [B, C, M]
        scores = jax.nn.log_softmax(jnp.where(is_valid, scores, -jnp.inf), axis=-1)
        edges = index.first_item[level]
        leads = (
            is_valid & (edges[child] <= place[..., None]) & (place[..., None] < edges[child + 1])
        )
        total += jnp.sum(jnp.where(leads, scores, 0), axis=-1)
        nodes = jnp.sum(jnp.where(leads, child, 0), axis=-1)
    return jnp.where(place < len(index.items), total, -jnp.inf)
