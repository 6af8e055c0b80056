"""The prefixes of all semantic IDs as a tree that a beam search can walk on the device.

The items are sorted by ID, so a prefix is a range of sorted items, and the prefixes of one length,
numbered in that order, are the nodes of one level: the children of node n are the nodes
`child_start[n]` to `child_start[n + 1]` of the next level. A beam's candidates are as many as the
level's widest node has children, looked up one by one.

Where nodes have most of the codes as children, usually at the first levels, there is a table too,
which has a row for each node and a column for each code. All codes are candidates then, and a beam
reads one row. No table is much larger than the level, so memory grows with the items alone.

I items   J of them in the index, usually all   Q levels   K codes of a level
M candidates: K with a table, or the children of the level's widest node
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

_LARGEST_SPARSITY = 4  # entries of a table for each child, beside those of a small one
_SMALL = 2**16


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
        tables: Q arrays [n_l, K] int32: the child that each code leads to, -1 for none; or None.
        widest: Q ints, M of each level.
    """

    child_start: tuple[jax.Array, ...]
    child_code: tuple[jax.Array, ...]
    first_item: tuple[jax.Array, ...]
    items: jax.Array
    rank: jax.Array
    tables: tuple[jax.Array | None, ...]
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
    child_start, child_code, first_item, tables, widest = [], [], [], [], []
    differs = np.zeros(num_items, bool)
    differs[:1] = True
    for level in range(num_levels):
        differs[1:] |= ids[1:, level] != ids[:-1, level]
        child_starts = np.flatnonzero(differs)
        parent_edges = np.searchsorted(child_starts, np.append(starts, num_items))
        codes = ids[child_starts, level]
        child_start.append(parent_edges)
        child_code.append(codes)
        first_item.append(np.append(child_starts, num_items))
        tables.append(_table(parent_edges, codes))
        widest.append(_width(parent_edges, tables[-1]))
        starts = child_starts
    if len(starts) != num_items:
        raise ValueError(f"{num_items} items have only {len(starts)} distinct semantic IDs")
    rank = np.full(len(semantic_ids), num_items)
    rank[order] = np.arange(num_items)
    as_device = lambda arrays: tuple(jnp.asarray(array, jnp.int32) for array in arrays)  # noqa: E731
    return PrefixIndex(
        *map(as_device, (child_start, child_code, first_item)),
        *as_device((order, rank)),
        tables=tuple(None if table is None else jnp.asarray(table) for table in tables),
        widest=tuple(widest),
    )


def _table(child_start: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """Returns the table of a level [n, K], or None if it would be large and most of it empty.

    Nor is there one that would have many more candidates than the widest node has children.
    """
    num_nodes, size = len(child_start) - 1, int(codes.max()) + 1
    is_large = num_nodes * size > _LARGEST_SPARSITY * len(codes) + _SMALL
    if is_large or size > 2 * np.diff(child_start).max():
        return None
    table = np.full((num_nodes, size), -1, np.int32)
    table[np.repeat(np.arange(num_nodes), np.diff(child_start)), codes] = np.arange(len(codes))
    return table


def _width(child_start: np.ndarray, table: np.ndarray | None) -> int:
    return int(np.diff(child_start).max()) if table is None else table.shape[1]


def candidates(
    index: PrefixIndex, level: int, nodes: jax.Array, scores: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns where the codes of `level` lead from nodes [...].

    Args:
        index: the index.
        level: from 0.
        nodes: [...] int32 of the level above.
        scores: [..., K] of the level's codes.

    Returns:
        child: [..., M] int32 nodes, anything where there is none.
        is_valid: [..., M] bool, whether there is one.
        scores: [..., M] those of the codes that lead to them.
    """
    table = index.tables[level]
    if table is not None:
        child = table[nodes]
        return jnp.maximum(child, 0), child >= 0, scores[..., : table.shape[1]]
    starts = index.child_start[level]
    child = starts[nodes][..., None] + jnp.arange(index.widest[level])
    is_valid = child < starts[nodes + 1][..., None]
    child = jnp.minimum(child, len(index.child_code[level]) - 1)
    scores = jnp.take_along_axis(scores, index.child_code[level][child], axis=-1)
    return child, is_valid, scores


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
        [jnp.zeros((places.shape[0], 1), bool), places[:, 1:] == places[:, :-1]], axis=1
    )
    return jnp.sort(jnp.where(repeated, nowhere, places), axis=-1)
