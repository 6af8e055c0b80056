"""A smoke run, and the catalogue that is measured."""

import json

import numpy as np
import pytest

from benchmarks import collisions
from genrec_jax.quantizers import residual


def test_a_smoke_run(tmp_path, capsys):
    path = tmp_path / "report.json"
    collisions.run(True, path, ["--smoke"])
    assert "peak GB" in capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["benchmark"] == "collisions" and report["arguments"] == ["--smoke"]
    assert [case["case"] for case in report["cases"]] == [
        "extra code 3 x 16",
        "re-assign 3 x 32",
    ]
    for case in report["cases"]:
        assert case["count"] == 10_000 and len(case["seconds"]) == 3
        assert case["rate"] == pytest.approx(10_000 / case["median_seconds"])
        assert 0.01 < case["peak_gigabytes"] < 100
        assert case["facts"]["unique_share"] == 1
        assert 0.3 < case["facts"]["colliding_share"] < 1
    # The largest prefix has more items than IDs.
    assert report["cases"][1]["facts"]["largest_prefix"] > 32


def test_latents_are_nearest_to_their_codes():
    rng = np.random.default_rng(0)
    codes, codebooks = collisions.draw_codes(rng, 2000, 256), collisions.draw_codebooks(rng, 256)
    latents = collisions.draw_latents(rng, codes, codebooks)
    found = residual.residual_quantize(latents, np.stack(codebooks)).ids
    np.testing.assert_array_equal(found, codes)


def test_codes_are_used_as_unevenly_as_on_beauty():
    codes = collisions.draw_codes(np.random.default_rng(0), 200_000, 256)
    for level in codes.T:
        share = np.bincount(level, minlength=256) / len(level)
        perplexity = np.exp(-(share * np.log(share)).sum())
        assert perplexity == pytest.approx(190, rel=0.1)


def test_copies_are_counted():
    counts = collisions._counts(np.array([[0, 1], [2, 0], [0, 1], [0, 0]]))
    np.testing.assert_array_equal(counts, [1, 2, 1])
