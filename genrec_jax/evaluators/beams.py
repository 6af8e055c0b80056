"""Where a beam search loses what it is to find.

B batch   W beams of a level   Q levels
"""

from collections.abc import Sequence

import numpy as np

from genrec_jax.decoding.beam_search import Beams


def prefixes(levels: Sequence[Beams]) -> list[np.ndarray]:
    """Returns for each level l from 0 on the codes of its beams, [B, W, l + 1]."""
    found: list[np.ndarray] = []
    for beams in levels:
        codes = beams.codes[..., None]
        if found:
            above = np.take_along_axis(found[-1], beams.parents[..., None], axis=1)
            codes = np.concatenate([above, codes], axis=-1)
        found.append(codes)
    return found


def report(levels: Sequence[Beams], targets: np.ndarray) -> list[dict[str, float]]:
    """Returns for each level what its beams have of the targets' IDs [B, Q].

    `kept` is the share of examples whose true prefix is a beam, `first` the share of all examples
    whose true prefix is the best one, and `mass` the mean over examples of the probability that all
    beams have together.
    """
    rows = []
    for level, (beams, codes) in enumerate(zip(levels, prefixes(levels), strict=True)):
        is_true = (codes == targets[:, None, : level + 1]).all(axis=-1) & (beams.scores > -np.inf)
        rows.append(
            {
                "kept": float(is_true.any(axis=1).mean()),
                "first": float(is_true[:, 0].mean()),
                "mass": float(np.exp(beams.scores.astype(np.float64)).sum(axis=1).mean()),
            }
        )
    return rows
