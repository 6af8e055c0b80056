"""Against a product of probabilities over a small tree, and against the beam search."""

import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax.decoding import item_scores, prefix_index
from genrec_jax.decoding.beam_search import beam_search

SIZES = (3, 4, 3)
RNG = np.random.default_rng(0)
IDS = np.stack(np.unravel_index(RNG.choice(36, 17, replace=False), SIZES), -1).astype(np.int32)
AMONG = np.arange(17) % 3 > 0


def logits_after(codes):
    """Returns the logits [K] of the level after some codes, different ones for each prefix."""
    rng = np.random.default_rng([7, *codes])
    return rng.normal(size=SIZES[len(codes)]).astype(np.float32)


def expected(among):
    """Returns the log-probability of each item among those, -inf of others."""
    scores = np.full(len(IDS), -np.inf)
    for item in np.flatnonzero(among):
        scores[item] = 0
        for level in range(3):
            prefix = IDS[item, :level]
            same = among & (IDS[:, :level] == prefix).all(axis=1)
            logits = logits_after(prefix)
            codes = np.unique(IDS[same, level])
            scores[item] += logits[IDS[item, level]] - np.log(np.exp(logits[codes]).sum())
    return scores


@pytest.mark.parametrize("among", [AMONG, np.ones(17, bool)], ids=["some", "all"])
def test_probabilities_are_those_of_the_codes_that_lead_to_items(among):
    index = prefix_index.build(IDS, among)
    items = np.stack([np.arange(17), np.arange(17)[::-1]])
    logits = [
        jnp.array([[logits_after(IDS[item, :level]) for item in row] for row in items])
        for level in range(3)
    ]
    scores = item_scores.log_probs(index, logits, items)
    np.testing.assert_allclose(scores, expected(among)[items], rtol=1e-5)
    np.testing.assert_allclose(np.exp(scores[0]).sum(), 1, rtol=1e-5)


def test_they_are_the_scores_of_a_beam_search():
    index = prefix_index.build(IDS)
    table = jnp.array([[logits_after((a, b)) for b in range(4)] for a in range(3)])

    def step(level, codes, cache):
        if level == 0:
            return jnp.array(logits_after(()))[None, None], jnp.zeros((1, 1), jnp.int32)
        if level == 1:
            return jnp.array([logits_after((a,)) for a in range(3)])[codes], codes
        return table[cache, codes], cache

    items, scores, _ = beam_search(step, jnp.zeros((1, 1), jnp.int32), index, 17, 1, None, True)
    np.testing.assert_allclose(scores[0], expected(np.ones(17, bool))[items[0]], rtol=1e-5)
