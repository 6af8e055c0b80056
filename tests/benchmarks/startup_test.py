"""What is made of the processes' clocks, and one start in this process."""

import json
import time

import pytest

from benchmarks import first_step, startup


def test_a_report(tmp_path, monkeypatch, capsys):
    caches = []

    def first(model, smoke, cache):
        assert smoke
        caches.append(cache)
        compile_seconds = 1.0 if caches.count(cache) > 1 else 5.0
        stages = dict.fromkeys(startup.STAGES, 0.5) | {"compile": compile_seconds}
        return 5.0 + compile_seconds, stages

    monkeypatch.setattr(startup, "first_step", first)
    path = tmp_path / "report.json"
    startup.run(True, path, ["--smoke"])
    out = capsys.readouterr().out
    assert "40%" in out and all(word in out for word in ("import", "trace", "compile", "saved"))
    report = json.loads(path.read_text())
    assert [case["case"] for case in report["cases"]] == [
        "rqvae, empty",
        "rqvae, filled",
        "retrieval, empty",
        "retrieval, filled",
    ]
    for case in report["cases"]:
        is_filled = "filled" in case["case"]
        assert case["median_seconds"] == (6.0 if is_filled else 10.0)
        assert case["facts"]["compile"] == (1.0 if is_filled else 5.0)
        assert case["facts"]["saved"] == pytest.approx(0.4 if is_filled else 0.0)
        assert case["rate"] == 1 / case["median_seconds"] and case["unit"] == "starts/s"
    assert caches[0] == caches[1] != caches[2] == caches[3]  # a cache of its own for each pair


def test_the_stages_of_a_start():
    started = time.perf_counter() - 7
    seconds = first_step.measure("rqvae", True, started)
    assert tuple(seconds) == startup.STAGES
    assert all(value > 0 for value in seconds.values())
    assert 7 < seconds["import"] < 8
    assert sum(seconds.values()) <= time.perf_counter() - started
