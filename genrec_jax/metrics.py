"""Ranking metrics with one relevant item, an example each, nothing reduced.

B batch   W length of the list
"""

import numpy as np

MISS = np.iinfo(np.int32).max  # the rank of a target that is not in its list


def hit_rank(predictions: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns [B] int32: the zero-based place of each target in its list, or MISS.

    Args:
        predictions: [B, W] items, best first; or [B, W, Q] tuples that must match in full.
        target: [B] items, or [B, Q].
    """
    hit = predictions == target[:, None]
    hit = hit.reshape(*hit.shape[:2], -1).all(axis=-1)  # [B, W]
    return np.where(hit.any(axis=-1), hit.argmax(axis=-1), MISS).astype(np.int32)


def recall_at_k(rank: np.ndarray, k: int) -> np.ndarray:
    """Returns [B]: 1 where the target is among the first k, else 0."""
    return np.where(rank < k, 1.0, 0.0)


def ndcg_at_k(rank: np.ndarray, k: int) -> np.ndarray:
    """Returns [B]: the discounted gain; with one relevant item the ideal gain is 1."""
    return np.where(rank < k, 1.0 / np.log2(rank + 2.0), 0.0)


def mrr_at_k(rank: np.ndarray, k: int) -> np.ndarray:
    """Returns [B]: one over the place counted from 1, or 0 beyond the first k."""
    return np.where(rank < k, 1.0 / (rank + 1.0), 0.0)


def ranking(rank: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, float]:
    """Returns the means of all metrics at all cut-offs, summed in float64."""
    per_example = {"recall": recall_at_k, "ndcg": ndcg_at_k, "mrr": mrr_at_k}
    return {
        f"{name}@{k}": float(function(rank, k).mean())
        for name, function in per_example.items()
        for k in cutoffs
    }
