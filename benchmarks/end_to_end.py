"""Seconds of whole runs, from prepared data and cached embeddings to metrics and the export.

    python -m benchmarks.end_to_end [--smoke] [--output=FILE.json] [--configs=retrieval,hybrid,...]
        [--dataset=beauty] [--data_dir=FOLDER] [--cache_dir=DIR] [--runs=N]
        [--settings=config.KEY=VALUE,...]

Each run is a process of its own, with its own seed, an empty folder and no compiled programs on
disk. Prepared data and embeddings are made before, in `--cache_dir`, and not counted. A run's
stages:

* `codes`: the tokenizer's training, without its evaluations;
* `IDs`: the rest of the tokenizer's run, which is data, evaluations, IDs, export;
* `train`: the recommender's, without evaluations;
* `eval`: the rest of its run, which is validation, test, baselines, export;
* what is left of the total is the start of Python, imports and printing.

The table has medians over the runs; the JSON has the stages of every run, and R@10 and N@10 on the
test.
"""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from absl import flags

from benchmarks import common
from genrec_jax import files
from genrec_jax.errors import UserError

_CONFIGS = flags.DEFINE_list("configs", ["retrieval"], "Which recommenders.")
_DATASET = flags.DEFINE_string("dataset", "beauty", "The data set; that of --smoke is synthetic.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Its folder. Default: see GENREC_DATA_DIR.")
_CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Prepared data. Default: made anew.")
_SETTINGS = flags.DEFINE_list("settings", [], "What else stands on the command line of each run.")
_RUNS = flags.DEFINE_integer("runs", 1, "How many runs of each config.", lower_bound=1)

RECOMMENDERS = ("retrieval", "hybrid", "retrieval_original", "sasrec")
STAGES = ("codes", "IDs", "train", "eval")


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Makes all runs, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        common.check_writable(output)
    if unknown := [config for config in _CONFIGS.value if config not in RECOMMENDERS]:
        raise UserError(f"--configs: no {unknown[0]!r}: choose of {', '.join(RECOMMENDERS)}")
    columns = {"s": lambda case: f"{case['median_seconds']:.3g}"}
    columns |= {"spread": lambda case: f"{case['spread']:.0%}"}
    columns |= {stage: _stage_cell(stage) for stage in STAGES}
    columns |= {
        "R@10": lambda case: f"{case['facts']['test/recall@10']:.4f}",
        "N@10": lambda case: f"{case['facts']['test/ndcg@10']:.4f}",
    }
    common.write_report("end_to_end", smoke, arguments, _cases(smoke), columns, output)


def _stage_cell(stage: str):
    return lambda case: f"{case['facts'][stage]:.3g}"


def _cases(smoke: bool) -> Iterator[dict[str, Any]]:
    """Yields the case of each config, when its runs are made."""
    dataset = "synthetic" if smoke else _DATASET.value
    settings = [f"--config.data.dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    with tempfile.TemporaryDirectory() as scratch:
        cache = pathlib.Path(_CACHE_DIR.value or f"{scratch}/cache")
        common.run_program("embed", dataset, smoke, pathlib.Path(scratch, "embed"), cache, settings)
        for config in _CONFIGS.value:
            own = [*settings, *(f"--{setting}" for setting in _SETTINGS.value)]
            runs = [
                _run(config, dataset, smoke, cache, [*own, f"--config.seed={seed}"])
                for seed in range(_RUNS.value)
            ]
            yield _case(f"{config}, {dataset}", runs)


def _run(
    config: str, dataset: str, smoke: bool, cache: pathlib.Path, settings: list[str]
) -> dict[str, float]:
    """Returns the seconds of a run, in all and of each stage, and its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        environment = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        started = time.perf_counter()
        metrics = common.run_program(config, dataset, smoke, workdir, cache, settings, environment)
        seconds = time.perf_counter() - started
        own = workdir / "tokenizer" / "metrics.json"
        tokenizer = files.read_json(own) if own.exists() else {}  # SASRec has none
    return {"seconds": seconds} | stages(metrics, tokenizer) | metrics


def stages(metrics: dict[str, float], tokenizer: dict[str, float]) -> dict[str, float]:
    """Returns the seconds of each stage, by the metrics of a run and of the tokenizer that it made.

    Those of the tokenizer are 0 if it made none.
    """
    tokenizer_seconds = tokenizer.get("time/seconds", 0.0)
    tokenizer_training = tokenizer.get("time/train_seconds", 0.0)
    training = metrics["time/train_seconds"]
    return {
        "codes": tokenizer_training,
        "IDs": tokenizer_seconds - tokenizer_training,
        "train": training,
        "eval": metrics["time/seconds"] - tokenizer_seconds - training,
    }


def _case(name: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    facts = {
        key: statistics.median(run[key] for run in runs)
        for key in (*STAGES, "test/recall@10", "test/ndcg@10", "train/best_step")
    }
    case = common.result(name, [run["seconds"] for run in runs], 1, "runs", facts)
    return case | {"runs": [{key: run[key] for key in facts} for run in runs]}


if __name__ == "__main__":
    common.start(run)
