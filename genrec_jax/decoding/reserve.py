"""Places of a ranked list that are reserved for unseen items, which the ranking may neglect.

B batch   W length of the list   V length of the list of unseen items   I items
"""

import numpy as np


def fill(
    items: np.ndarray,
    scores: np.ndarray,
    unseen_items: np.ndarray,
    unseen_scores: np.ndarray,
    is_unseen: np.ndarray,
    share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns lists whose first r places hold floor(share * r) unseen items or more, for each r.

    A place takes the best unseen item that is not above it where the list would else have too few
    of them, and the best of all items that is not above it elsewhere, or if no unseen one is left.
    So with a share of 0 the lists are those of all items; with another, scores need not descend.

    Args:
        items: [B, W] int32 best of all items, best first, -1 where there are no more.
        scores: [B, W] theirs.
        unseen_items: [B, V] int32 best of the unseen items, alike.
        unseen_scores: [B, V] theirs.
        is_unseen: [I] bool.
        share: from 0 to below 1.

    Returns:
        items: [B, W] int32, none twice; -1 where there are no more.
        scores: [B, W]; -inf beside -1.
    """
    length = items.shape[1]
    rows = np.arange(len(items))
    candidates = np.concatenate([items, unseen_items], axis=1)  # [B, W + V]
    candidate_scores = np.concatenate([scores, unseen_scores], axis=1)
    is_reserve = np.arange(candidates.shape[1]) >= length  # [W + V]
    is_left = candidates >= 0
    best, best_scores = np.full_like(items, -1), np.full_like(scores, -np.inf)
    num_unseen = np.zeros(len(items), int)
    for place in range(length):
        # The product of 0.29 and 100 is 28.999999999999996.
        is_due = num_unseen < np.floor(round(share * (place + 1), 9))  # [B]
        wanted = is_left & (is_reserve | ~is_due[:, None])
        wanted |= is_left & ~wanted.any(axis=1, keepdims=True)
        chosen = wanted.argmax(axis=1)  # [B], the first: columns stand best first
        is_there = wanted[rows, chosen]
        item = candidates[rows, chosen]
        best[is_there, place] = item[is_there]
        best_scores[is_there, place] = candidate_scores[rows, chosen][is_there]
        num_unseen += is_there & is_unseen[item]
        is_left &= candidates != item[:, None]
    return best, best_scores
