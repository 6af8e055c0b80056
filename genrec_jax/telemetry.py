"""What a run says while it goes: metrics on disk, a line of progress, tables at the end."""

import json
import logging
import pathlib
import resource
import sys
import time

import jax
import rich.console
import rich.progress
import rich.table

from genrec_jax import files
from genrec_jax import trackers as trackers_lib

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0


class MetricWriter:
    """Appends to metrics.jsonl and to the trackers; only process 0 writes."""

    def __init__(self, workdir: str | pathlib.Path, first_step: int, trackers: str):
        """Opens all; what an earlier attempt wrote after `first_step` is dropped.

        Args:
            trackers: names, with commas between, see `trackers.check`.
        """
        self._active = jax.process_index() == 0
        if not self._active:
            return
        workdir = pathlib.Path(workdir)
        path = workdir / "metrics.jsonl"
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= first_step]
            files.write_atomically(path, "".join(kept).encode())
        self._file = path.open("a", buffering=1)
        self._trackers = trackers_lib.open_all(trackers, workdir, first_step)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        if not self._active:
            return
        self._file.write(json.dumps({"step": step} | metrics) + "\n")
        for tracker in self._trackers:
            tracker.write(step, metrics)

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        if self._active:
            self._file.close()
            for tracker in self._trackers:
                tracker.close(is_whole=kind is None)


def _step_of(line: str) -> int:
    """Returns the step of a line, and a step beyond all for a line that was cut off."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return sys.maxsize


class ProgressLine:
    """A line with loss, steps/s, device memory and time left; plain lines where none can stay."""

    def __init__(self, name: str, first_step: int, num_steps: int):
        self._name, self._num_steps = name, num_steps
        self._last_line = time.monotonic()
        console = rich.console.Console(stderr=True)
        self._bar = None
        if console.is_terminal and jax.process_index() == 0:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn(name),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TextColumn("{task.fields[status]}"),
                rich.progress.TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(
                name, total=num_steps, completed=first_step, status="compiling"
            )

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception):
        if self._bar:
            self._bar.stop()

    def update(self, step: int, loss: float, steps_per_second: float) -> None:
        status = f"loss {loss:.4g}  {steps_per_second:.4g} steps/s  {_peak_memory()}"
        if self._bar:
            self._bar.update(self._task, completed=step, status=status)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES or step == self._num_steps:
            self._last_line = time.monotonic()
            left = (self._num_steps - step) / max(steps_per_second, 1e-9)
            _log.info("%s %d/%d  %s  %.0f s left", self._name, step, self._num_steps, status, left)

    def say(self, step: int, values: dict[str, float]) -> None:
        """Reports an evaluation."""
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        message = f"{self._name} step {step}: {text}"
        if self._bar:
            self._bar.console.print(message, markup=False, highlight=False)
        else:
            _log.info(message)


def _peak_memory() -> str:
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return f"{stats['peak_bytes_in_use'] / 2**30:.2f} GiB device peak"
    # A CPU device reports nothing; its memory is the process's.
    return f"{peak_host_bytes() / 2**30:.2f} GiB host peak"


def peak_host_bytes() -> int:
    """Returns the most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
