"""One semantic ID for each item: what to do when several items get the same codes."""

import math
from collections.abc import Sequence

import numpy as np

from genrec_jax.errors import UserError
from genrec_jax.quantizers import nearest_ids


def append_extra_code(
    ids: np.ndarray, popularity: np.ndarray, size: int, existing: np.ndarray | None = None
) -> np.ndarray:
    """Returns the IDs with one more code that tells items with equal codes apart.

    In each group of equal codes the most popular item gets 0, the next one 1, and so on; equally
    popular items keep the order of the catalogue. With `existing` IDs, a group goes on after the
    largest extra code that is there; those of items that were removed below it stay unused.
    Sorting makes it O(I log I).

    Args:
        ids: [I, Q] codes.
        popularity: [I] any order-able measure, larger for more popular.
        size: how many values the extra code may have; 0 for as many as it takes.
        existing: [E, Q + 1] IDs of other items, which keep them.

    Returns:
        [I, Q + 1] int32, no two rows alike, and none alike one of `existing`.

    Raises:
        UserError: if a group has more than `size` items, unless that is 0.
    """
    if existing is None:
        existing = np.empty((0, ids.shape[1] + 1), np.int32)
    keys = keys_of(np.concatenate([existing[:, :-1], ids]))
    keys, existing_keys = keys[len(existing) :], keys[: len(existing)]
    order = np.lexsort((-popularity, keys))
    extra = np.empty(len(ids), np.int32)
    extra[order] = nearest_ids.places(keys[order]) + _next_codes(
        existing_keys, existing[:, -1], keys[order]
    )
    largest = extra.max(initial=-1) + 1
    if 0 < size < largest:
        raise UserError(
            f"{largest} items share one semantic ID, the extra code tells {size} apart: train a "
            "tokenizer, in another --workdir, with --config.collisions=reassign, a larger "
            "--config.extra_code_size, more levels, larger codebooks, or more steps"
        )
    return np.concatenate([ids, extra[:, None]], axis=1, dtype=np.int32)


def check_room(num_items: int, level_sizes: Sequence[int]) -> None:
    """Raises UserError if so many items cannot have an ID of their own, of such levels."""
    if num_items > math.prod(level_sizes):
        raise UserError(
            f"{num_items} items are more than the {math.prod(level_sizes)} IDs of "
            f"{' x '.join(map(str, level_sizes))} codes: train a tokenizer, in another --workdir, "
            "with more or larger levels: --config.model.level_sizes, or else "
            "--config.model.num_levels and --config.model.codebook_size"
        )


def reassign(
    codes: np.ndarray,
    popularity: np.ndarray,
    latents: np.ndarray,
    codebooks: Sequence[np.ndarray],
    *,
    distance: str = "euclidean",
    existing: np.ndarray | None = None,
) -> np.ndarray:
    """Returns an ID of its own for each item, without an extra code.

    In each group of equal codes the most popular item keeps them, of equally popular ones the
    first of the catalogue; none does if they are one of the `existing` IDs. The other items get
    the nearest free IDs, level by level, see `nearest_ids.find`: with their own first Q - 1 codes
    while IDs with these are left, otherwise with those of a neighbour. Equally near items go by
    popularity.

    Args:
        codes: [I, Q] each level's code nearest to the item.
        popularity: [I] any order-able measure, larger for more popular.
        latents: [I, C] float32 what the codes stand for.
        codebooks: Q arrays [K, C], whose K may differ.
        distance: a key of `vector.DISTANCES`, of residuals and codewords.
        existing: [E, Q] IDs of other items, which keep them.

    Returns:
        [I, Q] int32, no two rows alike, and none alike one of `existing`.

    Raises:
        UserError: if there are fewer IDs than items.
    """
    if existing is None:
        existing = np.empty((0, len(codebooks)), np.int32)
    check_room(len(existing) + len(codes), [len(codebook) for codebook in codebooks])
    keys = keys_of(np.concatenate([existing, codes]))
    keys, existing_keys = keys[len(existing) :], keys[: len(existing)]
    order = np.lexsort((-popularity, keys))
    keeps = np.empty(len(codes), bool)
    keeps[order] = (nearest_ids.places(keys[order]) == 0) & ~np.isin(keys[order], existing_keys)
    (moved,) = np.nonzero(~keeps)
    moved = moved[np.argsort(-popularity[moved], kind="stable")]
    ids = np.array(codes, np.int32)
    taken = np.concatenate([existing, ids[keeps]])
    ids[moved] = nearest_ids.find(codes[moved], latents[moved], codebooks, taken, distance)
    return ids


def keys_of(ids: np.ndarray) -> np.ndarray:
    """Returns [N] int64, ordered and alike as the rows of ids [N, Q] are, however many levels."""
    keys, num_keys = np.zeros(len(ids), np.int64), 1
    for codes in ids.T:
        num_codes = int(codes.max(initial=0)) + 1
        if num_keys * num_codes > 2**63:
            distinct, keys = np.unique(keys, return_inverse=True)
            num_keys = len(distinct)
        keys = keys * num_codes + codes
        num_keys *= num_codes
    return keys


def _next_codes(
    existing_keys: np.ndarray, existing_codes: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Returns [I] the first extra code after all that exist with each of `keys` [I]."""
    distinct, places = np.unique(existing_keys, return_inverse=True)
    largest = np.full(len(distinct) + 1, -1, np.int32)
    np.maximum.at(largest, places, existing_codes)
    places = np.searchsorted(distinct, keys)
    return np.where(np.append(distinct, -1)[places] == keys, largest[places] + 1, 0)
