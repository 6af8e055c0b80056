import numpy as np
import pytest

from genrec_jax.metrics import MISS
from genrec_jax.report import charts, quality

RANKS = {
    "test": np.array([0, 4, 9, MISS, MISS]),
    "test_new": np.array([0, 0, 0, 0, 0]),
    "baseline/popularity/test": np.array([MISS, MISS, MISS, 6, 10]),
    "elsewhere/test": np.array([0, 0, 0, 0, 0]),
}


def test_a_table_has_the_metrics_of_all_that_have_a_name():
    table = quality.table(RANKS, "test", np.random.default_rng(0))
    assert list(table) == ["this model", "the most popular items"]
    assert set(table["this model"]) == {"recall@5", "ndcg@5", "recall@10", "ndcg@10"}
    recall = table["this model"]["recall@10"]
    assert recall.mean == pytest.approx(3 / 5) and 0 <= recall.low < 0.6 < recall.high <= 1
    ndcg = (1 + 1 / np.log2(6) + 1 / np.log2(11)) / 5
    assert table["this model"]["ndcg@10"].mean == pytest.approx(ndcg)
    assert table["the most popular items"]["recall@5"] == (0, 0, 0)
    assert quality.table(RANKS, "test_new", np.random.default_rng(0))["this model"]["recall@5"] == (
        1,
        1,
        1,
    )


def test_charts_go_by_groups_that_have_users(monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        charts,
        "groups",
        lambda names, sizes, series, x, y: drawn.update({x: (names, sizes, series)}) or x,
    )
    monkeypatch.setattr(charts, "curves", lambda series, **_: series)
    lengths, counts = np.array([2, 3, 3, 20, 31]), np.array([0, 1, 1, 1, 1])
    found = quality.all_charts(RANKS, lengths, counts, np.random.default_rng(0))

    names, sizes, series = drawn[found["by_length"]]
    assert names == ["2–3", "16–31"] and sizes == [3, 2]  # noqa: RUF001
    assert series["this model"].mean == (1.0, 0.0)
    assert series["the most popular items"].mean == (0.0, 0.5)
    names, sizes, series = drawn[found["by_popularity"]]
    assert names == ["0", "1"] and sizes == [1, 4] and series["this model"].mean == (1.0, 0.5)

    xs, ys = found["by_cutoff"]["this model"]
    assert list(xs) == list(range(1, 11))
    np.testing.assert_allclose(ys, [0.2] * 4 + [0.4] * 5 + [0.6])
