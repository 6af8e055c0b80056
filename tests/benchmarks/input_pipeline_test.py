"""A smoke run: what is counted, and how it compares."""

import json

import pytest

from benchmarks import input_pipeline


def test_a_smoke_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(input_pipeline, "shuffle_seconds", lambda number, repeats: number / 2)
    monkeypatch.setattr(input_pipeline, "training_rate", lambda batch_size, smoke: 3.0 * batch_size)
    monkeypatch.setattr(input_pipeline, "_consumed", lambda case, batch_size: 7.0 * batch_size)
    path = tmp_path / "report.json"
    input_pipeline.run(True, path, ["--smoke"])
    assert "consumed" in capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["benchmark"] == "input_pipeline" and report["arguments"] == ["--smoke"]
    indices, packed, packing = report["cases"]
    names = ["1 k, batch 64", "1.69 k, batch 256, packed", "pack 300 users"]
    assert [case["case"] for case in report["cases"]] == names
    for case in report["cases"]:
        assert len(case["seconds"]) == 3
        assert case["rate"] == pytest.approx(case["count"] / case["median_seconds"])
        # A shuffle of so many numbers, in the rest of the time.
        assert case["share_of_floor"] == pytest.approx(case["rate"] / 2)
    assert indices["count"] == 100 * 64 and indices["unit"] == "indices/s"
    assert indices["facts"]["consumed"] == 3 * 64
    # Rows are filled up with slots that hold nobody, which do not count.
    assert packed["count"] == 100 * 256 and packed["unit"] == "indices/s"
    assert packed["facts"]["consumed"] == 7 * 256
    # Rows of 64 places hold all items, which are three a user at least, and hardly anything else.
    assert packing["count"] >= 3 * 300 and packing["unit"] == "items/s"
    assert packing["facts"]["filled"] > 0.9
    places = 64 * packing["facts"]["num_rows"] * packing["facts"]["filled"]
    assert packing["count"] <= places <= 1.1 * packing["count"]
