"""The prefixes of all semantic IDs as a tree that a beam search can walk on the device.

The items are sorted by ID, so a prefix is a range of sorted items, and the prefixes of one length,
numbered in that order, are the nodes of one level: the children of node n are the nodes
`child_start[n]` to `child_start[n + 1]` of the next level. Memory grows with the items alone, and
a level's candidates per beam are as many as its widest node has children, not the whole codebook.

I items   J of them in the index, usually all   Q levels   M children of a level's widest node
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PrefixIndex:
    """Per level l, from the root's children (0) to the items (Q - 1), with n_l nodes above it.

    Attributes:
        child_start: Q arrays [n_l + 1] int32: where each node's children begin.
        child_code: Q arrays [n_(l+1)] int32: the code of level l that leads to each child.
        first_item: Q arrays [n_(l+1) + 1] int32: where each child's sorted items begin.
        items: [J] int32: the item at each sorted place.
        rank: [I] int32: the sorted place of each item, J of one that is not in the index.
        widest: Q ints, M of each level.
    """

    child_start: tuple[jax.Array, ...]
    child_code: tuple[jax.Array, ...]
    first_item: tuple[jax.Array, ...]
    items: jax.Array
    rank: jax.Array
    widest: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def num_levels(self) -> int:
        return len(self.widest)

    @property
    def is_there(self) -> jax.Array:
        """[I] bool: which items are in the index."""
        return self.rank < len(self.items)


def build(semantic_ids: np.ndarray, among: np.ndarray | None = None) -> PrefixIndex:
    """Returns the index of semantic_ids [I, Q], or of those where among [I] bool.

    Raises:
        ValueError: if two items have the same ID.
    """
    among = np.ones(len(semantic_ids), bool) if among is None else among
    order = np.lexsort(semantic_ids.T[::-1])
    order = order[among[order]]
    ids = semantic_ids[order]
    num_items, num_levels = ids.shape
    # Where the sorted items of each node begin, level by level; the root is all of them.
    starts = np.array([0])
    child_start, child_code, first_item, widest = [], [], [], []
    differs = np.zeros(num_items, bool)
    differs[:1] = True
    for level in range(num_levels):
        differs[1:] |= ids[1:, level] != ids[:-1, level]
        child_starts = np.flatnonzero(differs)
        parent_edges = np.searchsorted(child_starts, np.append(starts, num_items))
        child_start.append(parent_edges)
        child_code.append(ids[child_starts, level])
        first_item.append(np.append(child_starts, num_items))
        widest.append(int(np.diff(parent_edges).max()))
        starts = child_starts
    if len(starts) != num_items:
        raise ValueError(f"{num_items} items have only {len(starts)} distinct semantic IDs")
    rank = np.full(len(semantic_ids), num_items)
    rank[order] = np.arange(num_items)
    as_device = lambda arrays: tuple(jnp.asarray(array, jnp.int32) for array in arrays)  # noqa: E731
    return PrefixIndex(
        *map(as_device, (child_start, child_code, first_item)),
        *as_device((order, rank)),
        widest=tuple(widest),
    )


def children(
    index: PrefixIndex, level: int, nodes: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the children of nodes [...] at `level`, each [..., M]: node, code, is_valid."""
    starts = index.child_start[level]
    child = starts[nodes][..., None] + jnp.arange(index.widest[level])
    is_valid = child < starts[nodes + 1][..., None]
    child = jnp.minimum(child, len(index.child_code[level]) - 1)
    return child, index.child_code[level][child], is_valid


def num_left(index: PrefixIndex, level: int, child: jax.Array, excluded: jax.Array) -> jax.Array:
    """Returns how many items below each child are not excluded.

    Args:
        index: the index.
        level: the level whose children these are.
        child: [B, W, M] int32 nodes.
        excluded: [B, X] int32 sorted places of excluded items, ascending, each once, filled up
            with J at the end.
    """
    edges = index.first_item[level]
    first, last = edges[child], edges[child + 1]
    count_below = jax.vmap(jnp.searchsorted)
    return (last - first) - (count_below(excluded, last) - count_below(excluded, first))


def sorted_exclusions(index: PrefixIndex, items: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns [B, X] for `num_left`: the sorted places of items [B, X] where mask [B, X]."""
    nowhere = len(index.items)
    places = jnp.sort(jnp.where(mask, index.rank[items], nowhere), axis=-1)
    repeated = jnp.concatenate(
        [jnp.zeros((len(places), 1), bool), places[:, 1:] == places[:, :-1]], axis=1
    )
    return jnp.sort(jnp.where(repeated, nowhere, places), axis=-1)
