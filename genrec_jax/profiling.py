"""Traces of compiled programs, and where their time goes, by named scope.

A trace is a folder with an `.xplane.pb`, for XProf and for `by_scope`, and a
`perfetto_trace.json.gz`, for https://ui.perfetto.dev.
"""

import logging
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import jax
import numpy as np

from genrec_jax import files, hlo, roofline
from genrec_jax.errors import UserError

_UNKNOWN = hlo.Work("", {}, 0, 0)  # of what the trace names and the program does not
_log = logging.getLogger(__name__)


class Interval(NamedTuple):
    """Which steps of a training run to trace, and where the trace goes."""

    steps: range
    directory: pathlib.Path


class Row(NamedTuple):
    """What a call of the program does in one scope; sums of its instructions that were traced."""

    scope: str  # "" for what has none
    seconds: float
    flops: dict[str, int]  # of products, by `roofline.PRECISIONS`
    bytes: int  # of the compiled instructions' operands and results
    num_kernels: int  # executions of instructions


def interval(config, workdir: pathlib.Path) -> Interval:
    """Returns what `config.profile` asks for."""
    first, num_steps = config.profile.first_step, config.profile.num_steps
    return Interval(range(first, first + num_steps), workdir / "profile")


def check(config) -> None:
    """Raises UserError if `config.profile` asks for steps after the last one."""
    first, num_steps = config.profile.first_step, config.profile.num_steps
    if num_steps and first + num_steps > config.num_steps:
        raise UserError(
            f"--config.profile.first_step={first} and --config.profile.num_steps={num_steps} end "
            f"after the last step, --config.num_steps={config.num_steps}: lower one of them"
        )


def call(function, *args, dispatch: range, profile: Interval) -> Any:
    """Returns `function(*args)`, a jitted function's, traced if `dispatch` has steps to trace.

    The trace is of the device's work alone: the function is compiled before, and whatever the
    device still had to do is waited for. Beside it lie the optimised HLO and the table of scopes.
    Of several processes the first is traced.
    """
    asked = range(max(dispatch[0], profile.steps.start), min(dispatch.stop, profile.steps.stop))
    if not asked or jax.process_index():
        return function(*args)
    directory = profile.directory / f"steps_{dispatch[0]}_to_{dispatch[-1]}"
    compiled = function.lower(*args).compile()
    text = compiled.as_text()
    program = hlo.parse(text)
    out, seconds = trace(lambda: compiled(*args), directory, wait_for=args)
    rows = by_scope(program, hlo.work(program), directory, num_calls=1)
    files.write_atomically(directory / "hlo.txt", text.encode())
    files.write_atomically(directory / "scopes.md", table(rows).encode())
    _log.info(
        "traced steps %d to %d (%.3g s): %s, by scope in %s",
        *(dispatch[0], dispatch[-1], seconds, directory, directory / "scopes.md"),
    )
    return out


def trace(run: Callable[[], Any], directory: pathlib.Path, wait_for: Any = ()) -> tuple[Any, float]:
    """Runs and waits for the result under the profiler; returns it and the seconds it took.

    What lay in the directory is deleted.
    """
    shutil.rmtree(directory, ignore_errors=True)
    jax.block_until_ready(wait_for)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(directory, create_perfetto_trace=True, profiler_options=options):
        started = time.perf_counter()
        out = jax.block_until_ready(run())
        seconds = time.perf_counter() - started
    return out, seconds


def by_scope(
    program: hlo.Program, works: dict[str, hlo.Work], directory: pathlib.Path, num_calls: int
) -> list[Row]:
    """Returns the scopes of a traced program, the slowest first.

    Args:
        program: what was traced.
        works: of its instructions, see `hlo.work`.
        directory: of the trace.
        num_calls: of the program in the trace, whose mean is returned.
    """
    (path,) = directory.rglob("*.xplane.pb")
    rows: dict[str, Row] = {}
    for name, (seconds, count) in instruction_times(
        path, program.name, hlo.callers(program)
    ).items():
        work = works.get(name, _UNKNOWN)
        # A kernel library may start several kernels for one instruction, and a branch that is in
        # the program may not have been taken.
        runs = min(work.count, round(count / num_calls))
        flops = {precision: runs * amount for precision, amount in work.flops.items()}
        row = rows.get(work.scope, Row(work.scope, 0.0, {}, 0, 0))
        rows[work.scope] = Row(
            work.scope,
            row.seconds + seconds / num_calls,
            roofline.add_flops(row.flops, flops),
            row.bytes + runs * work.bytes,
            row.num_kernels + round(count / num_calls),
        )
    return sorted(rows.values(), key=lambda row: -row.seconds)


def instruction_times(
    path: pathlib.Path, module: str, callers: Container[str]
) -> dict[str, tuple[float, int]]:
    """Returns the seconds and the number of events of each instruction in an `.xplane.pb`.

    Where several run at once, each gets an equal share of the time, so that the sum is the time in
    which any ran. Of several devices it is the mean.

    Args:
        path: of the file.
        module: the program's name.
        callers: instructions that do not count, see `hlo.callers`.
    """
    devices = _events(path, module, callers)
    num_devices = len(devices) or 1
    found: dict[str, tuple[float, int]] = {}
    for events in devices:
        starts, ends, names = zip(*events, strict=True)
        for name, share in zip(names, shares(np.array(starts), np.array(ends)), strict=True):
            seconds, count = found.get(name, (0.0, 0))
            found[name] = seconds + share * 1e-9 / num_devices, count + 1
    return {name: (seconds, count // num_devices) for name, (seconds, count) in found.items()}


def spans(
    program: hlo.Program, works: dict[str, hlo.Work], directory: pathlib.Path, num_calls: int
) -> list[tuple[float, float, str]]:
    """Returns the last call of a trace: start and end in seconds and scope of what ran.

    Arguments are those of `by_scope`. Of several devices it is the first.
    """
    (path,) = directory.rglob("*.xplane.pb")
    devices = _events(path, program.name, hlo.callers(program))
    if not devices:
        return []
    events = sorted(devices[0])
    events = events[len(events) * (num_calls - 1) // num_calls :]
    first = events[0][0]
    return [
        ((start - first) * 1e-9, (end - first) * 1e-9, works.get(name, _UNKNOWN).scope)
        for start, end, name in events
    ]


def _events(
    path: pathlib.Path, module: str, callers: Container[str]
) -> list[list[tuple[float, float, str]]]:
    """Returns for each device start and end in nanoseconds and instruction of all that ran.

    The arguments are those of `instruction_times`. All CPUs are one device.
    """
    data = jax.profiler.ProfileData.from_file(str(path))  # must outlive what is read of it
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith(("/device:GPU", "/device:TPU"))]
    found = []
    for plane in devices or planes:
        lines = list(plane.lines)
        # On GPUs the streams are what ran; other lines are summaries of them.
        lines = [line for line in lines if line.name.startswith("Stream")] or lines
        events = []
        with warnings.catch_warnings():
            # Python 3.12 dislikes jaxlib's types, which ends the process if warnings are errors.
            warnings.simplefilter("ignore", DeprecationWarning)
            for event in (event for line in lines for event in line.events):
                stats = dict(event.stats)
                name = stats.get("hlo_op")
                if name and stats.get("hlo_module") == module and name not in callers:
                    events.append((event.start_ns, event.end_ns, name))
        if events:
            found.append(events)
    return found


def shares(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns [N] how much time each of N intervals has, sharing equally where they overlap."""
    times = np.unique(np.concatenate([starts, ends]))
    begun = np.searchsorted(np.sort(starts), times[:-1], side="right")
    ended = np.searchsorted(np.sort(ends), times[:-1], side="right")
    had = np.concatenate([[0.0], np.cumsum(np.diff(times) / np.maximum(begun - ended, 1))])
    return had[np.searchsorted(times, ends)] - had[np.searchsorted(times, starts)]


def table(rows: list[Row]) -> str:
    """Returns a Markdown table."""
    total = sum(row.seconds for row in rows) or 1.0
    lines = ["| scope | ms | share | kernels | GFLOP | MB |", "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        lines.append(
            f"| {row.scope or '(none)'} | {row.seconds * 1e3:,.3f} | {row.seconds / total:.1%} | "
            f"{row.num_kernels:,} | {sum(row.flops.values()) / 1e9:,.4g} | "
            f"{row.bytes / 1e6:,.4g} |"
        )
    return "\n".join(lines) + "\n"
