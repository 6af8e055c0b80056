"""How training went, for a run's page: charts and figures from metrics.jsonl."""

import json
import pathlib
import statistics
from typing import NamedTuple

from genrec_jax.report import charts

_CHARTS = {  # caption: what a name begins with
    "The loss of a batch, and its parts": (
        "train/loss",
        "train/level_",
        "train/reconstruction",
        "train/quantization",
        "train/item",
        "train/code",
        "train/backward",
    ),
    "Recall@10 and NDCG@10 on validation users": ("valid/recall@10", "valid/ndcg@10"),
    "Different IDs for each item, before each gets its own": ("tokenizer/unique_before",),
}


class Stage(NamedTuple):
    """What the page says of a stage's training."""

    name: str
    charts: dict[str, str]  # by caption
    figures: dict[str, str]


def stage(name: str, folder: pathlib.Path, metrics: dict[str, float]) -> Stage:
    """Returns what the page says of the run in a folder, whose metrics.json has `metrics`."""
    series = read(folder / "metrics.jsonl")
    drawn = {}
    for caption, beginnings in _CHARTS.items():
        chosen = {key: value for key, value in series.items() if key.startswith(beginnings)}
        if chosen:
            named = {key.partition("/")[2]: value for key, value in chosen.items()}
            drawn[caption] = charts.curves(named, x="step")
    figures = {}
    if series:
        figures["steps"] = f"{max(steps[-1] for steps, _ in series.values()):,}"
    if "time/steps_per_second" in series:
        _, rates = series["time/steps_per_second"]
        figures["steps a second, the median"] = f"{statistics.median(rates):,.4g}"
    for key, what in (
        ("time/train_seconds", "seconds of training"),
        ("time/seconds", "seconds of all, with evaluations"),
        ("train/best_step", "step that was kept"),
        ("model/num_parameters", "parameters"),
    ):
        if key in metrics:
            figures[what] = f"{metrics[key]:,.0f}"
    return Stage(name, drawn, figures)


def read(path: pathlib.Path) -> charts.Series:
    """Returns steps and values of each metric in metrics.jsonl; none, if there is no such file."""
    series: charts.Series = {}
    if not path.exists():  # of a tokenizer that is not trained by steps
        return series
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        step = record.pop("step")
        for key, value in record.items():
            steps, values = series.setdefault(key, ([], []))
            steps.append(step)
            values.append(value)
    return series
