"""Slopes worked by hand, the report, and what the cheaper kinds of work do."""

import json

import numpy as np
import pytest
from absl import flags
from PIL import Image

from benchmarks import scaling
from genrec_jax.errors import UserError


def test_the_slope_is_of_the_larger_sizes():
    # Below a hundredth of the largest size there is overhead alone.
    points = [(10, 7.0), (100, 7.0), (1_000, 2.0), (10_000, 20.0), (100_000, 200.0)]
    assert scaling.slope(points) == pytest.approx(1)
    assert scaling.slope([(1, 3.0), (10, 300.0)]) == pytest.approx(2)
    assert scaling.slope([(1, 3.0), (10, 3.0)]) == pytest.approx(0, abs=1e-12)


def test_sizes():
    assert scaling.sizes(False, 10**7) == [10**4, 10**5, 10**6, 10**7]
    assert scaling.sizes(False, 20_000) == [10_000, 20_000]
    assert scaling.sizes(False, 10_000) == [10_000]


def test_a_report(tmp_path, monkeypatch, capsys):
    def points(name, smoke):
        power = 2 if name == "packing" else 1
        return [
            {"size": size, "seconds": [size**power, 9.0 * size**power, 0.0], "bytes": size * 2**20}
            for size in (1, 10, 100)
        ]

    monkeypatch.setattr(scaling, "_in_a_process", points)
    monkeypatch.setattr(flags.FLAGS["picture"], "value", str(tmp_path / "scaling.png"))
    path = tmp_path / "report.json"
    scaling.run(True, path, ["--smoke"])
    assert "2.00 !" in capsys.readouterr().out
    cases = json.loads(path.read_text())["cases"]
    assert [case["case"] for case in cases] == list(scaling.WORKS)
    for case in cases:
        squared = case["case"] == "packing"
        assert case["facts"]["time_slope"] == pytest.approx(2 if squared else 1)
        assert case["facts"]["memory_slope"] == pytest.approx(1)
        assert case["rate"] == pytest.approx(0.01 if squared else 1)
        assert case["unit"] == f"{case['facts']['of']}/s" and case["count"] == 100
        assert [point["size"] for point in case["points"]] == [1, 10, 100]
    with Image.open(tmp_path / "scaling.png") as image:
        assert image.format == "PNG"


def test_an_unknown_kind_of_work(monkeypatch):
    monkeypatch.setattr(flags.FLAGS["works"], "value", ["packing", "paking"])
    with pytest.raises(UserError, match="--works: no 'paking': choose of quantise, "):
        scaling.run(True, None, [])


def test_measured_points():
    points = scaling.measure(scaling.WORKS["samples"], [100, 300], smoke=True)
    assert [point["size"] for point in points] == [100, 300]
    assert all(len(point["seconds"]) == 3 and min(point["seconds"]) > 0 for point in points)
    assert 0 <= points[0]["bytes"] <= points[1]["bytes"]


def test_work_of_users():
    corpus = scaling.random_corpus(200)
    assert corpus.num_users == 200 and len(corpus.items) == corpus.offsets[-1]
    assert np.diff(corpus.offsets).min() == 5  # 3 to train on, and two to predict

    prepared = {
        name: work.prepare(200, True) for name, work in scaling.WORKS.items() if work.of == "users"
    }
    # All items for training but each user's first are targets.
    targets = len(corpus.items) - 2 * 200 - 200
    assert len(prepared["samples"]()) == targets
    segments = prepared["packing"]().segments
    followed = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] >= 0)
    assert followed.sum() == targets
    assert prepared["evaluation"]()["test/num_users"] == 200


def test_work_of_items():
    ids = scaling.WORKS["extra code"].prepare(2_000, True)()
    assert ids.shape == (2_000, 4) and len(np.unique(ids, axis=0)) == 2_000
    index = scaling.WORKS["prefix index"].prepare(2_000, True)()
    assert index.num_levels == 3 and sorted(index.items.tolist()) == list(range(2_000))
