"""Where the course of a run is shown: TensorBoard, Weights & Biases, MLflow.

Each is a writer of three methods: to open it for a run's folder, to write the metrics of a step,
and to close it. What an earlier attempt wrote belongs to the same run.
"""

import contextlib
import importlib.util
import logging
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from genrec_jax import files
from genrec_jax.errors import UserError, one_line

_log = logging.getLogger(__name__)
_PACKAGES = {"wandb": "wandb>=0.18,<1", "mlflow": "mlflow>=3,<4"}  # the extras in pyproject.toml
_PROJECT = "genrec_jax"
_MLFLOW_BATCH = 100  # parameters of a call, at most


class Tracker(Protocol):
    """What `MetricWriter` tells the metrics to."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Opens the run in `workdir`, whose steps up to `first_step` are written already."""

    def write(self, step: int, metrics: dict[str, float]) -> None: ...

    def close(self, is_whole: bool) -> None:
        """Ends the attempt, which went through or was interrupted."""


class TensorBoard:
    """Event files in `tensorboard/`."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        (workdir / "tensorboard").mkdir(exist_ok=True)
        # Written by this thread: of SummaryWriter's own thread a full disk would be the silent end.
        self._board = EventsWriter(str(workdir / "tensorboard" / "events"), f".{os.getpid()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(first_step + 1, session_log=start)  # hides what stands there from this step on

    def write(self, step: int, metrics: dict[str, float]) -> None:
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
        ]
        self._add(step, summary=summary_pb2.Summary(value=values))

    def _add(self, step: int, **content) -> None:
        self._board.write_event(event_pb2.Event(step=step, wall_time=time.time(), **content))
        self._board.flush()

    def close(self, is_whole: bool) -> None:
        self._board.close()


class WandB:
    """A run of Weights & Biases, whose own environment variables say where."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        import wandb

        (workdir / "wandb").mkdir(exist_ok=True)  # or it takes another folder
        with _one_line_of("wandb", wandb.Error, "run `wandb login`, or set WANDB_MODE=offline"):
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                name=str(workdir),
                id=_run_id(workdir / "wandb", lambda: uuid.uuid4().hex[:8]),
                resume="allow",
                dir=str(workdir),
                config=_config(workdir),
                settings=wandb.Settings(silent=True, console="off"),  # our lines stay ours
            )
        # Steps that are written again after an interruption would else be refused.
        self._run.define_metric("*", step_metric="step")
        if not self._run.offline and self._run.url:  # offline it would warn that there is none
            _log.info("wandb: %s", self._run.url)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log({"step": step} | metrics)

    def close(self, is_whole: bool) -> None:
        self._run.finish(exit_code=0 if is_whole else 1)


class MLflow:
    """A run of MLflow, whose own environment variables say where."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        import mlflow

        self._entities = mlflow.entities
        self._error = mlflow.MlflowException
        (workdir / "mlflow").mkdir(exist_ok=True)
        with self._one_line():
            self._client = mlflow.MlflowClient()
            self._run = _run_id(workdir / "mlflow", lambda: self._create(workdir))
            self._client.update_run(self._run, status="RUNNING")

    def _create(self, workdir: pathlib.Path) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=str(workdir)).info.run_id
        settings = files.flatten(_config(workdir))
        params = [self._entities.Param(key, str(value)) for key, value in settings.items()]
        for first in range(0, len(params), _MLFLOW_BATCH):
            self._client.log_batch(run, params=params[first : first + _MLFLOW_BATCH])
        return run

    def write(self, step: int, metrics: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        values = [
            self._entities.Metric(name.replace("@", "_at_"), value, now, step)  # it refuses an @
            for name, value in metrics.items()
        ]
        with self._one_line():
            self._client.log_batch(self._run, metrics=values)

    def close(self, is_whole: bool) -> None:
        with self._one_line():
            self._client.set_terminated(self._run, "FINISHED" if is_whole else "KILLED")

    def _one_line(self):
        return _one_line_of("mlflow", self._error, "set MLFLOW_TRACKING_URI to one that answers")


_TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


def check(names: str) -> None:
    """Raises UserError for the first of the trackers that is unknown, or is not installed."""
    for name in _split(names):
        if name not in _TRACKERS:
            raise UserError(
                f"--config.trackers={names!r}: no tracker {name!r}: choose of "
                f"{', '.join(_TRACKERS)}, with commas between"
            )
        if name not in _PACKAGES:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder that the tracker has left here is none
            raise UserError(
                f"tracker {name} needs the extra {name}: pip install '{_PACKAGES[name]}'"
            )


def open_all(names: str, workdir: pathlib.Path, first_step: int) -> list[Tracker]:
    """Returns the trackers with these names, which have commas between, opened."""
    check(names)
    return [_TRACKERS[name](workdir, first_step) for name in _split(names)]


def _split(names: str) -> list[str]:
    return list(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))


def _config(workdir: pathlib.Path) -> dict[str, Any]:
    path = workdir / "config.json"
    return files.read_json(path) if path.exists() else {}


def _run_id(folder: pathlib.Path, make: Callable[[], str]) -> str:
    """Returns the name that the run in this folder has at the tracker, which `make` gives once."""
    path = folder / "run_id.json"
    if not path.exists():
        files.write_json(path, make())
    return files.read_json(path)


@contextlib.contextmanager
def _one_line_of(name: str, error_type: type[Exception], remedy: str) -> Iterator[None]:
    try:
        yield
    except error_type as error:
        raise UserError(
            f"tracker {name}: {one_line(error)}: {remedy}, then give the same command"
        ) from error
