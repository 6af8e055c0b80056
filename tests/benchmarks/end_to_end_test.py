"""What is made of the metrics and the clock of whole runs; the runs themselves are made up."""

import json

import pytest
from absl import flags

from benchmarks import common, end_to_end
from genrec_jax import files
from genrec_jax.errors import UserError

METRICS = {
    "time/seconds": 50.0,
    "time/train_seconds": 30.0,
    "test/recall@10": 0.25,
    "test/ndcg@10": 0.125,
    "train/best_step": 200,
}


def test_the_stages_of_a_run():
    tokenizer = {"time/seconds": 14.0, "time/train_seconds": 10.0}
    assert end_to_end.stages(METRICS, tokenizer) == {
        "codes": 10.0,
        "IDs": 4.0,
        "train": 30.0,
        "eval": 6.0,
    }
    without = end_to_end.stages(METRICS, {})
    assert (without["codes"], without["IDs"], without["eval"]) == (0, 0, 20)


def test_a_report(tmp_path, monkeypatch, capsys):
    calls = []

    def run_program(config, dataset, smoke, workdir, cache_dir, settings, environment=None):
        calls.append((config, dataset, smoke, settings))
        if config == "embed":
            cache_dir.mkdir()
            return {}
        assert cache_dir.is_dir() and not workdir.exists()
        assert environment["JAX_COMPILATION_CACHE_DIR"].startswith(str(workdir.parent))
        files.write_json(
            workdir / "tokenizer" / "metrics.json",
            {"time/seconds": 14.0, "time/train_seconds": 10.0},
        )
        return METRICS | {"time/train_seconds": 30.0 + 2 * settings.count("--config.seed=1")}

    monkeypatch.setattr(common, "run_program", run_program)
    monkeypatch.setattr(flags.FLAGS["runs"], "value", 2)
    path = tmp_path / "report.json"
    end_to_end.run(True, path, ["--smoke"])
    out = capsys.readouterr().out
    assert "retrieval" in out and "0.2500" in out and "0.1250" in out
    assert calls == [
        ("embed", "synthetic", True, []),
        ("retrieval", "synthetic", True, ["--config.seed=0"]),
        ("retrieval", "synthetic", True, ["--config.seed=1"]),
    ]
    (case,) = json.loads(path.read_text())["cases"]
    assert case["case"] == "retrieval, synthetic" and len(case["seconds"]) == 2
    assert case["unit"] == "runs/s" and case["rate"] == pytest.approx(1 / case["median_seconds"])
    assert [run["train"] for run in case["runs"]] == [30, 32]
    assert case["facts"]["train"] == 31 and case["facts"]["eval"] == 5
    assert case["facts"]["test/recall@10"] == 0.25


def test_an_unknown_recommender_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(common, "run_program", None)
    monkeypatch.setattr(flags.FLAGS["configs"], "value", ["sasrec", "rqvae"])
    with pytest.raises(UserError, match="--configs: no 'rqvae': choose of retrieval, hybrid, "):
        end_to_end.run(True, None, [])
