"""Which rates are drawn where, and what is refused."""

import json

import pytest
from absl import flags
from PIL import Image

from benchmarks import plot
from genrec_jax.errors import UserError


def report(commit, day, rates, benchmark="quantization", device="H100", smoke=False):
    return {
        "benchmark": benchmark,
        "smoke": smoke,
        "device": device,
        "commit": commit,
        "date": f"2026-11-{day:02}T00:00:00+00:00",
        "cases": [
            {"case": case, "rate": rate, "unit": "items/s", "facts": {}}
            for case, rate in rates.items()
        ],
    }


@pytest.fixture
def folder(tmp_path):
    """Three commits on two devices, two measurements of one, and JSON that is no report."""
    written = {
        "b": report("b" * 40, 3, {"one": 20.0, "two": 5.0}),
        "a": report("a" * 40, 1, {"one": 10.0}),
        "deep/c": report("c" * 40 + "-dirty", 5, {"one": 40.0}),
        "deep/again": report("b" * 40, 4, {"one": 30.0}),
        "cpu": report("a" * 40, 2, {"one": 1.0}, device="cpu"),
        "other": report("a" * 40, 2, {"x": 7.0}, benchmark="kmeans"),
        "smoke": report("a" * 40, 6, {"one": 999.0}, smoke=True),
        "metrics": {"test/recall@10": 0.5},
        "list": [1, 2],
    }
    for name, value in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


def test_rates_by_benchmark_device_case_and_commit(folder):
    reports = plot.load([str(folder)])
    assert plot.commits(reports) == ["a" * 40, "b" * 40, "c" * 40 + "-dirty"]
    assert plot.panels(reports) == {
        ("quantization", "H100"): {
            # Of two measurements of a commit the later one.
            "one (items/s)": {"a" * 40: 10.0, "b" * 40: 30.0, "c" * 40 + "-dirty": 40.0},
            "two (items/s)": {"b" * 40: 5.0},
        },
        ("quantization --smoke", "H100"): {"one (items/s)": {"a" * 40: 999.0}},
        ("quantization", "cpu"): {"one (items/s)": {"a" * 40: 1.0}},
        ("kmeans", "H100"): {"x (items/s)": {"a" * 40: 7.0}},
    }


def test_a_picture_from_the_command_line(folder, monkeypatch, capsys):
    output = folder / "pictures" / "rates.png"
    monkeypatch.setattr(flags.FLAGS["output"], "value", str(output))
    plot.main(["plot", str(folder / "a.json"), str(folder / "deep")])
    assert "3 reports of 3 commits" in capsys.readouterr().out
    with Image.open(output) as image:
        assert image.format == "PNG" and image.width > 500 and image.height > 300


def test_what_is_no_report(folder):
    for name, message in (
        ("none.json", "none.json does not exist"),
        ("metrics.json", "metrics.json is no report of a benchmark with cases"),
        ("broken.json", "broken.json is no report"),
    ):
        with pytest.raises(UserError, match=message):
            plot.load([str(folder / name)])


def test_the_command_line_needs_both(folder, monkeypatch):
    with pytest.raises(UserError, match=r"--output=FILE\.png"):
        plot.main(["plot", str(folder)])
    monkeypatch.setattr(flags.FLAGS["output"], "value", str(folder / "x.png"))
    with pytest.raises(UserError, match="give files or folders"):
        plot.main(["plot"])
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no report of a benchmark with cases in"):
        plot.main(["plot", str(empty)])
