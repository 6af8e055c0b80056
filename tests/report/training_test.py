import json

from genrec_jax.report import training


def test_curves_and_figures_of_a_stage(tmp_path):
    records = [
        {"step": 10, "train/loss": 3.0, "time/steps_per_second": 5.0},
        {"step": 20, "train/loss": 2.0, "time/steps_per_second": 7.0},
        {"step": 20, "valid/recall@10": 0.5, "valid/recall@5": 0.25},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines)
    series = training.read(tmp_path / "metrics.jsonl")
    assert series["train/loss"] == ([10, 20], [3.0, 2.0])
    assert series["valid/recall@10"] == ([20], [0.5])

    metrics = {"time/seconds": 1234.4, "train/best_step": 20, "model/num_parameters": 1000}
    stage = training.stage("The model", tmp_path, metrics)
    assert list(stage.charts) == [
        "The loss of a batch, and its parts",
        "Recall@10 and NDCG@10 on validation users",
    ]
    assert stage.figures == {
        "steps": "20",
        "steps a second, the median": "6",
        "seconds of all, with evaluations": "1,234",
        "step that was kept": "20",
        "parameters": "1,000",
    }


def test_a_stage_without_steps(tmp_path):
    stage = training.stage("Clusters", tmp_path, {"time/seconds": 3.0})
    assert stage == ("Clusters", {}, {"seconds of all, with evaluations": "3"})
