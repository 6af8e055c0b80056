"""Stage `summary`: mean and spread over the seeds of a run, and over its users.

Of each run it reads config.json, metrics.json and ranks.parquet.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from pyarrow import parquet

from genrec_jax import checks, files, hub
from genrec_jax import metrics as metrics_lib
from genrec_jax.errors import UserError
from genrec_jax.evaluators.retrieval import CUTOFFS

_MINIMA = {"seed": 0, "num_resamples": 1}
_OWN = ("seed", "cache_dir", "tokenizer")  # settings of which each run has its own
_TOLD = ("valid", "test", "generated/", "scored/", "baseline/")  # prefixes of what is told
_MEANS = ("model/num_parameters", "time/seconds", "train/best_step")  # also told


class Run(NamedTuple):
    """A finished run."""

    folder: pathlib.Path
    config: dict
    metrics: dict[str, float]
    users: list[tuple[str, str]]  # ids of each test user and of the target
    ranks: dict[str, np.ndarray]  # by prefix of metrics, [U], see `metrics.hit_rank`


def run(config, workdir: pathlib.Path) -> dict[str, float]:
    """Returns `mean/M` and `std/M` over the runs for each metric M of the rankings, and a few more.

    `std` is that of a sample, and is missing for a single run. For the test there are `low/M` and
    `high/M` too, the bootstrap interval over users of the mean over runs, see
    `metrics.bootstrap_interval`.
    """
    checks.at_least(config, _MINIMA)
    names = [name.strip() for name in config.runs.split(",") if name.strip()]
    for name in names:
        hub.check_folder(name)
    folders = list(map(pathlib.Path, names))
    if not folders:
        raise UserError("no --config.runs: give folders of finished runs, with commas between")
    if len(set(folders)) < len(folders):
        raise UserError(f"--config.runs={config.runs} names a folder twice")
    runs = [load(folder) for folder in folders]
    for other in runs[1:]:
        _check_alike(runs[0], other)

    summary = {"num_runs": len(runs), "num_users": len(runs[0].users)}
    told = [name for name in runs[0].metrics if name.startswith(_TOLD)]
    for name in [*told, *_MEANS]:
        values = [one.metrics[name] for one in runs]
        summary[f"mean/{name}"] = float(np.mean(values))
        if len(runs) > 1:
            summary[f"std/{name}"] = float(np.std(values, ddof=1))
    rng = np.random.default_rng(config.seed)
    for prefix in runs[0].ranks:
        each = [metrics_lib.per_example(one.ranks[prefix], CUTOFFS) for one in runs]
        for name in each[0]:
            of_users = np.mean([values[name] for values in each], axis=0)  # [U]
            low, high = metrics_lib.bootstrap_interval(of_users, config.num_resamples, rng)
            summary |= {f"low/{prefix}/{name}": low, f"high/{prefix}/{name}": high}
    return summary


def load(folder: pathlib.Path) -> Run:
    for name in ("config.json", "metrics.json", "ranks.parquet"):
        if not (folder / name).is_file():
            raise UserError(
                f"no finished run of configs/retrieval.py or configs/sasrec.py in {folder}: {name} "
                "is missing; run that first"
            )
    table = parquet.read_table(folder / "ranks.parquet").to_pydict()
    users = list(zip(table.pop("user_id"), table.pop("item_id"), strict=True))
    ranks = {
        name: np.array([metrics_lib.MISS if rank is None else rank - 1 for rank in column])
        for name, column in table.items()
    }
    metrics = files.read_json(folder / "metrics.json")
    return Run(folder, files.read_json(folder / "config.json"), metrics, users, ranks)


def _check_alike(one: Run, other: Run) -> None:
    """Raises UserError unless two runs differ in nothing but their seeds."""
    ours, theirs = files.flatten(one.config), files.flatten(other.config)
    differ = [
        key
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and key.rpartition(".")[2] not in _OWN
    ]
    if differ:
        raise UserError(
            f"{other.folder} is no other seed of {one.folder}: {differ[0]} differs; give runs that "
            "differ in --config.seed alone"
        )
    if other.users != one.users:
        raise UserError(
            f"{other.folder} was tested on other users than {one.folder}: give runs with "
            "--config.eval.max_users=0"
        )
    if other.config["seed"] == one.config["seed"]:
        raise UserError(f"{other.folder} has the seed of {one.folder}: give each once")
