"""What a model in training is told of the tree of all semantic IDs.

The decoder of a pure code model must learn which codes follow which; told, it only has to tell
siblings apart. The arrays are dense, for products instead of look-ups, whose gradients would be
scatters.

I items   Q levels   K codes of a level
"""

from typing import NamedTuple

import jax
import numpy as np


class CatalogueTree(NamedTuple):
    """Per item its path from the root, per node its children.

    Attributes:
        codes: [I, Q] int32 semantic IDs.
        parents: [I, Q] int32: the node above each code, numbered within its level.
        siblings: Q arrays [nodes, K] bool: the codes that lead from a node to an item of training.
        shares: [I, Q] float32: one by the number of items that agree with the item up to and with
            the level's code.
    """

    codes: jax.Array
    parents: jax.Array
    siblings: tuple[jax.Array, ...]
    shares: jax.Array


def build(
    semantic_ids: np.ndarray, level_sizes: tuple[int, ...], is_known: np.ndarray
) -> CatalogueTree:
    """Returns the tree of semantic_ids [I, Q], whose levels have so many codes.

    `is_known` [I] bool tells which items training has.
    """
    above = np.zeros(len(semantic_ids), np.int32)
    parents, siblings, shares = [], [], []
    for level, size in enumerate(level_sizes):
        children = np.zeros((above.max(initial=-1) + 1, size), bool)
        children[above[is_known], semantic_ids[is_known, level]] = True
        parents.append(above)
        siblings.append(children)
        _, above, counts = np.unique(
            semantic_ids[:, : level + 1], axis=0, return_inverse=True, return_counts=True
        )
        above = above.reshape(-1).astype(np.int32)
        shares.append(1 / counts[above])
    return CatalogueTree(
        semantic_ids.astype(np.int32),
        np.stack(parents, axis=1),
        tuple(siblings),
        np.stack(shares, axis=1).astype(np.float32),
    )
