"""Hit rates and NDCG against the recording, which matches whole IDs."""

import numpy as np
import pytest

from genrec_jax import metrics
from tests.parity.fixtures import Fixture


@pytest.mark.parametrize("call", ["call0", "call1", "both", "both_len10"])
def test_recorded_call(call):
    fixture = Fixture("metrics")
    numbers = [call.removeprefix("call")] if call.startswith("call") else ["0", "1"]
    target = np.concatenate([fixture[f"actual_{number}"] for number in numbers])
    lists = np.concatenate([fixture[f"top_k_{number}"] for number in numbers])
    if call == "both_len10":
        lists = lists[:, :10]
    rank = metrics.hit_rank(lists, target)
    for k in fixture.meta["ks"]:
        recall = metrics.recall_at_k(rank, k).mean()
        np.testing.assert_allclose(recall, fixture[f"{call}/h@{k}"], rtol=0, atol=1e-12)
    ndcg = metrics.ndcg_at_k(rank, lists.shape[1]).mean()  # the original's has no cut-off
    np.testing.assert_allclose(ndcg, fixture[f"{call}/ndcg"], rtol=0, atol=1e-6)
