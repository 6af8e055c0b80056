"""A smoke run: both files are read."""

import json

import pytest

from benchmarks import preparation


def test_a_smoke_run(tmp_path, capsys):
    path = tmp_path / "report.json"
    preparation.run(True, path, ["--smoke"])
    cases = json.loads(path.read_text())["cases"]
    assert [case["case"] for case in cases] == ["2 k reviews", "2 k ratings"]
    for case in cases:
        assert case["rate"] == pytest.approx(2_000 / case["median_seconds"])
        assert case["unit"] == "events/s" and case["facts"]["peak_bytes"] > 0
