"""Is a tokenizer healthy? Numbers from its codes alone."""

from collections.abc import Sequence

import numpy as np

from genrec_jax.quantizers import collisions


def report(codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> dict[str, float]:
    """Returns the health of codes [I, Q] from Q codebooks [K, C], under `tokenizer/`.

    `unique_before` is the number of distinct IDs divided by items, before anything is done about
    collisions; `entropy` is that of the distribution over IDs in nats (log I at best);
    `largest_group` is the most items with one ID. For each level see `level_report`.
    """
    _, counts = np.unique(collisions.keys_of(codes), return_counts=True)
    values = {
        "unique_before": len(counts) / len(codes),
        "entropy": _entropy(counts),
        "largest_group": int(counts.max()),
    }
    for level, codebook in enumerate(codebooks):
        level_values = level_report(codes[:, level], codebook)
        values |= {f"level_{level}/{name}": value for name, value in level_values.items()}
    return {f"tokenizer/{name}": value for name, value in values.items()}


def level_report(codes: np.ndarray, codebook: np.ndarray) -> dict[str, float]:
    """Returns how one level's codes [I] use its codebook [K, C].

    `usage` is the share of codes in use, `dead_codes` the number of others, `perplexity` the
    number of codes that would be as varied if all were equally common, `gini` how unequal their
    counts are (0: all are equal), `mean_norm` the mean length of the codewords.
    """
    counts = np.bincount(codes, minlength=len(codebook))
    return {
        "usage": float((counts > 0).mean()),
        "dead_codes": int((counts == 0).sum()),
        "perplexity": float(np.exp(_entropy(counts))),
        "gini": gini(counts),
        "mean_norm": float(np.linalg.norm(codebook, axis=-1).mean()),
    }


def gini(counts: np.ndarray) -> float:
    """Returns the Gini coefficient of counts [K], from 0 (all equal) to (K - 1) / K (all in one).

    It is half the mean difference of two of them, divided by their mean (Gini, 1912).
    """
    ranks = np.arange(1, len(counts) + 1)
    weighted = (ranks * np.sort(counts)).sum()
    return float((2 * weighted / counts.sum() - len(counts) - 1) / len(counts))


def unique_share(semantic_ids: np.ndarray) -> float:
    """Returns the number of distinct rows of semantic_ids [I, Q] divided by I."""
    return len(np.unique(collisions.keys_of(semantic_ids))) / len(semantic_ids)


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
