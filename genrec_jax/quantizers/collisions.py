"""One semantic ID for each item: what to do when several items get the same codes."""

import numpy as np

from genrec_jax.errors import UserError


def append_extra_code(ids: np.ndarray, popularity: np.ndarray, size: int) -> np.ndarray:
    """Returns the IDs with one more code that tells items with equal codes apart.

    In each group of equal codes the most popular item gets 0, the next one 1, and so on; equally
    popular items keep the order of the catalogue. Sorting makes it O(I log I).

    Args:
        ids: [I, Q] int32 codes.
        popularity: [I] any order-able measure, larger for more popular.
        size: how many values the extra code may have; 0 for as many as it takes.

    Returns:
        [I, Q + 1] int32, no two rows alike.

    Raises:
        UserError: if a group has more than `size` items, unless that is 0.
    """
    places = np.arange(len(ids))
    order = np.lexsort((places, -popularity, *ids.T[::-1]))
    sorted_ids = ids[order]
    is_first = np.ones(len(ids), bool)
    is_first[1:] = (sorted_ids[1:] != sorted_ids[:-1]).any(axis=1)
    group_start = np.maximum.accumulate(np.where(is_first, places, 0))
    extra = np.empty(len(ids), np.int32)
    extra[order] = places - group_start
    largest = extra.max(initial=-1) + 1
    if 0 < size < largest:
        raise UserError(
            f"{largest} items share one semantic ID, the extra code tells {size} apart: raise "
            "--config.extra_code_size, or train a tokenizer that spreads them (more levels, "
            "larger codebooks, more steps)"
        )
    return np.concatenate([ids, extra[:, None]], axis=1).astype(np.int32)
