"""Where the course of a run is shown. Extras that are not installed are not tested."""

import pathlib
import sys
import tomllib

import pytest

from genrec_jax import files, trackers
from genrec_jax.errors import UserError
from genrec_jax.telemetry import MetricWriter

CONFIG = {"seed": 3, "model": {"dim": 16}}


def test_the_extras_are_those_of_the_project(monkeypatch):
    project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        (requirement,) = project["project"]["optional-dependencies"][name]
        with pytest.raises(UserError) as error:
            trackers.check(f"tensorboard, {name}")
        expected = f"tracker {name} needs the extra {name}: pip install '{requirement}'"
        assert str(error.value) == expected


def test_a_folder_that_a_tracker_left_is_not_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    (tmp_path / "wandb").mkdir()
    with pytest.raises(UserError, match="tracker wandb needs the extra wandb"):
        trackers.check("wandb")


def test_an_unknown_tracker_and_none():
    with pytest.raises(UserError, match="no tracker 'comet': choose of tensorboard, wandb, mlflow"):
        trackers.check("tensorboard,comet")
    trackers.check("")


def test_no_tracker_leaves_metrics_jsonl_alone(tmp_path):
    with MetricWriter(tmp_path, 0, "") as writer:
        writer.write(1, {"a": 2.0})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_mlflow_has_one_run_of_all_attempts(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    files.write_json(tmp_path / "config.json", CONFIG)
    with pytest.raises(KeyboardInterrupt), MetricWriter(tmp_path, 0, "mlflow") as writer:
        writer.write(10, {"valid/recall@10": 0.25})
        raise KeyboardInterrupt
    client = mlflow.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'genrec_jax'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    with MetricWriter(tmp_path, 10, "mlflow") as writer:
        writer.write(20, {"valid/recall@10": 0.5})
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == str(tmp_path)
    assert run.data.params == {"seed": "3", "model.dim": "16"}
    course = client.get_metric_history(run.info.run_id, "valid/recall_at_10")
    assert [(metric.step, metric.value) for metric in course] == [(10, 0.25), (20, 0.5)]


def test_mlflow_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://here")
    with pytest.raises(UserError, match=r"tracker mlflow: .*: set MLFLOW_TRACKING_URI to one that"):
        MetricWriter(tmp_path, 0, "mlflow")


def test_wandb_has_one_run_of_all_attempts(tmp_path, monkeypatch, capfd):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    files.write_json(tmp_path / "config.json", CONFIG)
    for step in (10, 20):
        with MetricWriter(tmp_path, step - 10, "wandb") as writer:
            writer.write(step, {"valid/recall@10": step / 40})
            assert dict(wandb.run.config) == CONFIG and wandb.run.name == str(tmp_path)
            assert dict(wandb.run.summary)["valid/recall@10"] == step / 40
            name = wandb.run.id
        assert wandb.run is None
        assert files.read_json(tmp_path / "wandb" / "run_id.json") == name
        assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{name}/*.wandb"))) >= 1
    assert capfd.readouterr() == ("", "")
