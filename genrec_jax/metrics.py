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
    return {name: float(values.mean()) for name, values in per_example(rank, cutoffs).items()}


def per_example(rank: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Returns all metrics at all cut-offs, [B] each."""
    functions = {"recall": recall_at_k, "ndcg": ndcg_at_k, "mrr": mrr_at_k}
    return {
        f"{name}@{k}": function(rank, k) for name, function in functions.items() for k in cutoffs
    }


def bootstrap_interval(
    values: np.ndarray, num_resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Returns between what the mean of values [B] lies with 95%, by the bootstrap over examples.

    The 2.5% and 97.5% quantiles of the means of so many resamples (Efron, 1979, percentile method).
    A resample is drawn as how often it has each distinct value, of which ranks give few.
    """
    distinct, counts = np.unique(values, return_counts=True)
    num = len(values)
    means = [rng.multinomial(num, counts / num) @ distinct / num for _ in range(num_resamples)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
