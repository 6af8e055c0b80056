"""What semantic IDs say of the items: categories, collisions, neighbours, reconstruction.

I items   Q levels   S items of a sample   N neighbours   E embedding width   C code width

Everything here is about the codes [I, Q] before an extra code tells colliding items apart. The
prefix of length q is an item's first q codes; that of length Q is its ID.
"""

import collections
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import metrics as sklearn_metrics
from sklearn.metrics import cluster

from genrec_jax.quantizers import collisions, vector

_ENTRIES = 1 << 24  # of a matrix of distances, computed at once
_ROWS = 8192  # items that are decoded at once
_MAX_CATEGORIES = 50  # that people can tell apart

Category = tuple[str, ...]  # names, coarse to fine


class Branch(NamedTuple):
    """The items that share a prefix, and the largest of its continuations."""

    code: int  # the last one of the prefix
    items: np.ndarray  # places in the catalogue, ascending
    branches: list["Branch"]


def prefixes(codes: np.ndarray) -> np.ndarray:
    """Returns [I, Q] int64: column q - 1 numbers the distinct prefixes of length q from 0 on.

    The numbers are in the order of the codes.
    """
    columns = []
    for length in range(1, codes.shape[1] + 1):
        _, numbers = np.unique(collisions.keys_of(codes[:, :length]), return_inverse=True)
        columns.append(numbers)
    return np.stack(columns, axis=1)


def number(values: Iterable) -> np.ndarray:
    """Returns [I] int64, equal for equal values, numbered from 0 in the order that they come."""
    numbers: dict = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def category_report(
    item_prefixes: np.ndarray, categories: Sequence[Category], seed: int
) -> dict[str, float]:
    """Returns how well prefixes [I, Q] agree with the categories at each depth.

    Under `depth_D/`, with D the length of the path to a category: `num_categories`, and
    `num_items`, how many items have a path so long; all else is about these. Depths at which they
    are all of one category are left out, for nothing agrees or disagrees with that. Under
    `depth_D/prefix_q/` see `agreement`.
    """
    report = {}
    rng = np.random.default_rng(seed)
    for depth in range(1, max(map(len, categories), default=0) + 1):
        items = np.flatnonzero([len(path) >= depth for path in categories])
        classes = number(categories[item][:depth] for item in items)
        num_categories = int(classes.max()) + 1
        if num_categories < 2:
            continue
        name = f"depth_{depth}"
        report |= {f"{name}/num_categories": num_categories, f"{name}/num_items": len(items)}
        shuffled = rng.permutation(classes)
        for length, groups in enumerate(item_prefixes[items].T, start=1):
            values = agreement(groups, classes, shuffled)
            report |= {f"{name}/prefix_{length}/{key}": value for key, value in values.items()}
    return report


def agreement(groups: np.ndarray, classes: np.ndarray, shuffled: np.ndarray) -> dict[str, float]:
    """Returns how well groups [I] agree with classes [I].

    `purity` is the share of items that are of their group's most common class. Small groups are
    pure by chance, so `chance_purity` is that of the classes `shuffled`. `nmi` is the mutual
    information in units of the mean of the two entropies, I / ((H(g) + H(c)) / 2), which many small
    groups raise as well. `ami` is adjusted for chance, (I - E) / ((H(g) + H(c)) / 2 - E) with E the
    information to be expected of random groups of these sizes: 0 by chance, 1 if groups and classes
    are the same (Vinh et al., 2010).
    """
    return {
        "purity": purity(groups, classes),
        "chance_purity": purity(groups, shuffled),
        "nmi": float(sklearn_metrics.normalized_mutual_info_score(classes, groups)),
        "ami": float(sklearn_metrics.adjusted_mutual_info_score(classes, groups)),
    }


def purity(groups: np.ndarray, classes: np.ndarray) -> float:
    """Returns the share of items [I] whose class is the most common one of their group."""
    counts = cluster.contingency_matrix(classes, groups, sparse=True)  # [classes, groups]
    return float(counts.max(axis=0).sum() / len(classes))


def collision_groups(codes: np.ndarray) -> list[np.ndarray]:
    """Returns the places of the items of each ID that several have, the largest group first.

    Groups of one size are in the order of their codes, and places ascend.
    """
    ids = prefixes(codes)[:, -1]
    groups = np.split(np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids))[:-1])
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)


def collision_report(codes: np.ndarray, texts: Sequence[str]) -> dict[str, float]:
    """Returns how many items share an ID, and how much of that equal texts explain.

    Items of equal text cannot be told apart by their texts.

    `num_groups` counts the IDs that several items have, `num_items` these items, and
    `num_collisions` those beyond the first one of each ID. `num_items_of_equal_text` counts the
    items whose text another item has too, of whatever ID. `explained_by_text` is the share of the
    collisions that are gone if of items with equal ID and equal text only one is kept (0 if there
    are no collisions), and `unique_but_for_text` the number of distinct IDs divided by the number
    of items that are then left.
    """
    ids, text_numbers = prefixes(codes)[:, -1], number(texts)
    id_counts = np.bincount(ids)
    num_distinct = len(np.unique(ids * (text_numbers.max() + 1) + text_numbers))
    num_collisions = len(ids) - len(id_counts)
    return {
        "num_groups": int((id_counts > 1).sum()),
        "num_items": int(id_counts[id_counts > 1].sum()),
        "num_collisions": num_collisions,
        "num_items_of_equal_text": int((np.bincount(text_numbers)[text_numbers] > 1).sum()),
        "explained_by_text": (len(ids) - num_distinct) / max(num_collisions, 1),
        "unique_but_for_text": len(id_counts) / num_distinct,
    }


def nearest_items(x: np.ndarray, rows: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Returns [S, N] int32: places of the rows of x [I, E] nearest to the rows [S], nearest first.

    The search is exact, by Euclidean distances in float32. A row is not its own neighbour; of
    rows that are equally far the first ones are taken.
    """
    x = jnp.asarray(x)
    size = max(1, _ENTRIES // len(x))
    parts = [
        _nearest_items(x, rows[first : first + size], num_neighbours)
        for first in range(0, len(rows), size)
    ]
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnames="num_neighbours")
def _nearest_items(x: jax.Array, rows: jax.Array, num_neighbours: int) -> jax.Array:
    distances = vector.squared_distances(x[rows], x)
    distances = distances.at[jnp.arange(len(rows)), rows].set(jnp.inf)
    _, places = jax.lax.top_k(-distances, num_neighbours)
    return places


def neighbour_report(
    item_prefixes: np.ndarray, rows: np.ndarray, near: np.ndarray, near_quantized: np.ndarray
) -> dict[str, float]:
    """Returns how IDs keep the neighbours of the items `rows` [S].

    Under `prefix_q/`, for prefixes [I, Q] of each length: `shared` is the share of neighbours that
    have the item's prefix, `chance_shared` that of all other items. `overlap` is the share of
    neighbours that are also neighbours of what quantisation has made of the items, and
    `chance_overlap` that of any items.

    Args:
        near: [S, N] neighbours by embeddings.
        near_quantized: [S, N] neighbours by sums of codewords.
    """
    num_others = len(item_prefixes) - 1
    report = {}
    for length, groups in enumerate(item_prefixes.T, start=1):
        num_alike = np.bincount(groups)[groups[rows]] - 1  # [S]
        report[f"prefix_{length}/shared"] = float((groups[near] == groups[rows, None]).mean())
        report[f"prefix_{length}/chance_shared"] = float((num_alike / num_others).mean())
    report["overlap"] = overlap(near, near_quantized)
    report["chance_overlap"] = near.shape[1] / num_others
    return report


def overlap(some: np.ndarray, others: np.ndarray) -> float:
    """Returns the share of entries of each row of some [S, N] that are in that of others [S, N]."""
    return float((some[:, :, None] == others[:, None]).any(axis=-1).mean())


def partial_sums(codes: np.ndarray, codewords: Sequence[np.ndarray]) -> np.ndarray:
    """Returns [Q, I, C]: the sums of the items' first codewords, one more each time.

    `codewords` are one array [K, C] a level, of which K may differ.
    """
    chosen = [level[code] for level, code in zip(codewords, codes.T, strict=True)]
    return np.cumsum(chosen, axis=0)


def reconstruction_report(
    embeddings: np.ndarray,
    quantized: np.ndarray,
    encode: Callable[[np.ndarray], np.ndarray],
    decode: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """Returns what is lost of the items after each number of levels.

    Under `prefix_q/`: `error`, the mean over items and dimensions of the squared difference between
    embeddings [I, E] and what is decoded of their first q codewords; `relative_error`, that divided
    by the embeddings' variance, so that 1 is no better than to know nothing but their mean; and
    `relative_latent_error`, the same of the latents and the sums themselves.

    Args:
        quantized: [Q, I, C], see `partial_sums`.
        encode: from embeddings [B, E] to latents [B, C].
        decode: from sums of codewords [B, C] to embeddings [B, E].
    """
    latents = _in_parts(encode, embeddings)
    variance, latent_variance = (
        float(x.var(axis=0, dtype=np.float64).mean()) for x in (embeddings, latents)
    )
    report = {}
    for length, sums in enumerate(quantized, start=1):
        error = mean_squared(embeddings - _in_parts(decode, sums))
        report |= {
            f"prefix_{length}/error": error,
            f"prefix_{length}/relative_error": error / variance,
            f"prefix_{length}/relative_latent_error": mean_squared(latents - sums)
            / latent_variance,
        }
    return report


def mean_squared(x: np.ndarray) -> float:
    return float(np.square(x, dtype=np.float64).mean())


def _in_parts(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    parts = [function(x[first : first + _ROWS]) for first in range(0, len(x), _ROWS)]
    return np.concatenate(parts)


def largest_branches(
    codes: np.ndarray, widths: Sequence[int], items: np.ndarray | None = None
) -> list[Branch]:
    """Returns the first levels of the tree of all prefixes, where most items are.

    Args:
        codes: [I, Q].
        widths: for each of the first levels how many branches of a node are kept, those with the
            most items first, then the lower codes.
        items: places of the items that are in the tree; None for all.
    """
    if not widths:
        return []
    items = np.arange(len(codes)) if items is None else items
    found, counts = np.unique(codes[items, 0], return_counts=True)
    branches = []
    for code in found[np.argsort(-counts, kind="stable")][: widths[0]]:
        inside = items[codes[items, 0] == code]
        branches.append(
            Branch(int(code), inside, largest_branches(codes[:, 1:], widths[1:], inside))
        )
    return branches


class CategoryTable(NamedTuple):
    """How many items of each category have each code."""

    labels: list[str]  # of the categories, the last one for all that are not named, if any
    codes: np.ndarray  # [U] those in use
    counts: np.ndarray  # [categories, U]


def category_table(
    codes: np.ndarray, labels: Sequence[str | None], num_categories: int
) -> CategoryTable:
    """Returns the most common categories by codes [I], ordered so that structure is seen.

    Categories are in the order of their names, so that those of one parent are neighbours, and
    codes in that of their most common category, the purest of each first.

    Args:
        labels: a name for each item's category, None for items that have none.
        num_categories: how many of them, the most common ones; the others count as one.
    """
    named = collections.Counter(label for label in labels if label is not None)
    shown = sorted(label for label, _ in named.most_common(num_categories))
    places = {label: place for place, label in enumerate(shown)}
    used, columns = np.unique(codes, return_inverse=True)
    counts = np.zeros((len(shown) + 1, len(used)), np.int64)
    np.add.at(counts, ([places.get(label, len(shown)) for label in labels], columns), 1)
    if not counts[-1].any():
        counts = counts[:-1]
    shares = counts.max(axis=0) / counts.sum(axis=0)
    order = np.lexsort((-shares, counts.argmax(axis=0)))
    return CategoryTable([*shown, "all others"][: len(counts)], used[order], counts[:, order])


def category_labels(categories: Sequence[Category]) -> list[str | None]:
    """Returns names for people of the categories at one depth, None for items without one.

    The depth is the greatest at which there are 50 categories or fewer and half of the items have
    one, or else 1. A first name that nine items of ten have says little and is left out.
    """
    depth = 1
    for deeper in range(2, max(map(len, categories), default=0) + 1):
        paths = [path[:deeper] for path in categories if len(path) >= deeper]
        if len(set(paths)) <= _MAX_CATEGORIES and 2 * len(paths) >= len(categories):
            depth = deeper
    firsts = collections.Counter(path[0] for path in categories if path)
    (first, count), *_ = firsts.most_common(1) or [("", 0)]
    is_common = count >= 0.9 * len(categories)
    labels = []
    for path in categories:
        names = path[1:depth] if is_common and depth > 1 and path[:1] == (first,) else path[:depth]
        labels.append(" > ".join(names) if len(path) >= depth else None)
    return labels
