"""The scores of cold targets."""

import numpy as np
import pytest

from genrec_jax import ranking
from genrec_jax.data import cold_start
from genrec_jax.data import corpus as corpus_lib
from tests.data.corpus_test import make

CORPUS = make([[0, 1, 2, 3], [0, 2, 1, 4], [3, 4, 0, 3]])
COLD = cold_start.hold_out_items(CORPUS, share=0.5, seed=0)  # 3 or 4


def test_cold_targets_have_scores_of_their_own():
    samples = corpus_lib.held_out_samples(COLD, "test")
    targets = COLD.items[samples.target]
    assert targets.tolist() == [3, 4, 3]
    (cold,) = np.flatnonzero(COLD.is_cold)
    items = np.array([[3, 5], [4, 5], [6, 7]])
    scores = ranking._score(items, COLD, samples, "baseline/x/test", "_new")
    assert scores["baseline/x/test_new/recall@5"] == pytest.approx(2 / 3)
    expected = {3: (0.5, 2), 4: (1.0, 1)}[cold]
    prefix = "baseline/x/test_cold_new"
    assert (scores[f"{prefix}/recall@5"], scores[f"{prefix}/num_users"]) == expected
    for corpus, split in ((CORPUS, "test"), (COLD, "valid")):
        scores = ranking._score(items, corpus, samples, split, "")
        assert scores.keys() == {key for key in scores if key.startswith(f"{split}/")}
