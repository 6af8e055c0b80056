"""What all benchmarks share: the command line, the clock, the device's ceilings, the report.

    python -m benchmarks.NAME [--smoke] [--output=FILE.json]

Each case that is done is told on stderr, and all of them stand in a table at the end.

One device is measured. A case says how much work a call is: items or steps, floating-point
operations by precision, and bytes, each computed from shapes and the fewest that the work needs. A
product of [m, k] and [k, n] is 2mkn operations; sums, norms, activations, softmax, look-ups and
the optimiser are not counted, nor is anything that is computed again or thrown away. Bytes are
those of the inputs and results, each moved once; what lies between them could stay on the chip.

The device's ceilings are measured beside: large products at each precision, and a large copy. At
these rates the work would take the larger of its arithmetic and its traffic, which is the floor; a
case's share of it is floor / median. It is no bound where work is so small that a cache holds it.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.box
import rich.console
import rich.table
from absl import app, flags
from absl import logging as absl_logging

from genrec_jax import files, roofline, sharding, tables, train_step, xla
from genrec_jax.errors import UserError, exit_on_error

_SMOKE = flags.DEFINE_bool("smoke", False, "Small shapes, to see that it works; no figures.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the results go as JSON. Default: nowhere.")


class Case(NamedTuple):
    """A call to measure, and how much work it is."""

    name: str
    call: Callable[[], Any] | None  # starts the work on the device, returns arrays to wait for
    unit: str  # what is counted: items or steps
    count: int  # of them a call
    flops: dict[str, int]  # a call, by precision
    bytes: int  # a call
    facts: dict[str, float]  # what else the JSON should say
    # Of work that has a clock of its own: repeats -> the seconds a call of each, as many or more.
    seconds: Callable[[int], list[float]] | None = None


# What cases say about each other: rate by case -> value by what it is, printed below the table.
Compare = Callable[[dict[str, float]], dict[str, float]]


def main(
    benchmark: str, cases: Callable[[bool], Iterable[Case]], compare: Compare | None = None
) -> None:
    """Runs a benchmark from the command line; `cases` takes whether shapes are to be small."""
    start(functools.partial(run, benchmark, cases, compare=compare))


def start(run: Callable[[bool, str | None, list[str]], None]) -> None:
    """Calls `run` with what --smoke and --output say, and with the command line."""
    xla.set_up()
    absl_logging.set_verbosity(absl_logging.WARNING)  # JAX says which backends it did not find
    app.run(
        exit_on_error(lambda argv: run(_SMOKE.value, _OUTPUT.value, argv[1:])),
        flags_parser=exit_on_error(_parse_options),
    )


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line and returns the program's name and what is no option."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        raise UserError(str(error)) from error


def _parse_options(argv: list[str]) -> list[str]:
    """Parses a command line of options alone and returns it whole."""
    rest = parse_flags(argv)
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: --help says which options there are")
    return argv


def run(
    benchmark: str,
    cases: Callable[[bool], Iterable[Case]],
    smoke: bool,
    output: str | None,
    arguments: list[str],
    compare: Compare | None = None,
) -> None:
    """Measures all cases, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        check_writable(output)
    repeats, min_seconds = (3, 0.0) if smoke else (5, 0.2)
    report = head(benchmark, smoke, arguments)
    print("measuring the device's ceilings", file=sys.stderr)
    report["ceilings"] = roofline.ceilings(smoke, repeats, min_seconds)
    results = (
        _result(case, seconds_of(case, repeats, min_seconds), report["ceilings"])
        for case in cases(smoke)
    )
    report["cases"] = list(_told(results))
    rates = {case["case"]: case["rate"] for case in report["cases"]}
    report["comparisons"] = compare(rates) if compare else {}
    _print(report, _COLUMNS)
    if output is not None:
        files.write_json(output, report)


def seconds_of(case: Case, repeats: int, min_seconds: float = 0.0) -> list[float]:
    """Returns the seconds a call of each repeat, each of at least so many seconds."""
    if case.seconds:
        return case.seconds(repeats)
    return roofline.measure(case.call, repeats, min_seconds)


def _told(cases: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the cases; each is told in a line on stderr as soon as it is done."""
    for case in cases:
        seconds, rate = case["median_seconds"], short(case["rate"])
        print(f"{case['case']}: {seconds:.3g} s, {rate} {case['unit']}", file=sys.stderr)
        yield case


def check_writable(output: str) -> None:
    """Raises a UserError if no file can be written there."""
    path = pathlib.Path(output)
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--output={output} cannot be written: {error.strerror}") from error


def training_case(
    name: str,
    *,
    loss_fn: train_step.LossFn,
    init: Callable[[jax.Array], dict],
    tx,
    data: Any,
    num_samples: int,
    batch_size: int,
    num_steps: int,
    ema_decay: float,
    flops: dict[str, int],
    bytes_read: int,
    facts: dict[str, float],
    superbatch: np.ndarray | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Case:
    """Returns the case of a superbatch of training as `train.fit` dispatches it.

    Left out of it are the input pipeline and what is done between superbatches.

    Args:
        name: of the case.
        loss_fn, tx, ema_decay: as for `train.fit`.
        init: rng -> params.
        data: what `loss_fn` reads, whole on every device.
        num_samples: random samples are among so many.
        batch_size, num_steps: of the superbatch.
        flops: of one step, by precision.
        bytes_read: of the data that one step reads.
        facts: for the JSON.
        superbatch: indices of samples, for other ones than random [num_steps, batch_size].
        mesh: the devices; the first one unless given.
    """
    mesh = mesh or sharding.one_device()
    train_superbatch = train_step.make_train_superbatch(
        loss_fn, tx, mesh, accumulation=1, ema_decay=ema_decay, rules=None
    )
    replicated = sharding.replicated(mesh)
    init_rng, rng = jax.device_put(jax.random.split(jax.random.key(0)), replicated)
    state = train_step.new_state(
        mesh, lambda rng, _: init(rng), tx, None, ema_decay, init_rng, None
    )
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
    data = jax.device_put(data, replicated)
    if superbatch is None:
        shape = num_steps, batch_size
        superbatch = np.random.default_rng(0).integers(num_samples, size=shape, dtype=np.int32)
    superbatch = jax.device_put(superbatch, sharding.over_rows(mesh, row_axis=1))

    def call():
        nonlocal state
        state, metrics = train_superbatch(state, data, superbatch, rng)
        return metrics

    return Case(
        name,
        call,
        "steps",
        num_steps,
        {precision: num_steps * count for precision, count in flops.items()},
        num_steps * (state_bytes(num_parameters, ema_decay) + bytes_read),
        {"num_parameters": num_parameters, "batch_size": batch_size} | facts,
    )


def logged_seconds(workdir: pathlib.Path, num_steps: int) -> list[float]:
    """Returns the seconds of each dispatch of a run of `train.fit`, each of so many steps."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rates = (json.loads(line).get("time/steps_per_second") for line in lines)
    return [num_steps / rate for rate in rates if rate is not None]


def state_bytes(num_parameters: int, ema_decay: float) -> int:
    """Returns the bytes of the state that a step moves, all float32, read once and written once.

    The state is the parameters, AdamW's two moments, and their average if there is one.
    """
    return num_parameters * 4 * 2 * (4 if ema_decay else 3)


def _result(case: Case, seconds: list[float], ceilings: dict[str, float]) -> dict[str, Any]:
    """Returns the case as the JSON has it."""
    median = statistics.median(seconds)
    return {
        "case": case.name,
        "median_seconds": median,  # of a call
        "spread": (max(seconds) - min(seconds)) / median,
        "rate": case.count / median,
        "unit": f"{case.unit}/s",
        "tflops_per_second": sum(case.flops.values()) / median / 1e12,
        "gigabytes_per_second": case.bytes / median / 1e9,
        "share_of_floor": roofline.floor_seconds(case.flops, case.bytes, ceilings) / median,
        "seconds": seconds,
        "count": case.count,
        "flops": case.flops,
        "bytes": case.bytes,
        "facts": case.facts,
    }


def head(benchmark: str, smoke: bool, arguments: list[str]) -> dict[str, Any]:
    """Returns what the JSON says about the benchmark, device, versions, commit and date."""
    device = jax.devices()[0]
    return {
        "benchmark": benchmark,
        "smoke": smoke,
        "arguments": arguments,
        "device": device.device_kind,
        "platform": device.platform,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str:
    """Returns the commit, with `-dirty` if files differ from it, or `unknown` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


# How a case of `run` stands in the table.
_COLUMNS = {
    "ms": lambda case: tables.three_digits(case["median_seconds"] * 1e3),
    "spread": lambda case: f"{case['spread']:.0%}",
    "rate": lambda case: f"{short(case['rate'])} {case['unit']}",
    "TFLOP/s": lambda case: tables.three_digits(case["tflops_per_second"]),
    "GB/s": lambda case: tables.three_digits(case["gigabytes_per_second"]),
    "floor": lambda case: f"{case['share_of_floor']:.1%}",
}


def _print(report: dict[str, Any], columns: dict[str, Callable[[dict[str, Any]], str]]) -> None:
    """Prints a report; the texts of its columns are made of a case."""
    console = rich.console.Console(highlight=False)
    console.print(
        f"{report['benchmark']} on {report['device']}, jax {report['jax']}, {report['commit']}",
        soft_wrap=True,
    )
    if "ceilings" in report:
        ceilings = dict(report["ceilings"])
        copy = ceilings.pop("copy")
        products = ", ".join(f"{name} {rate / 1e12:,.4g}" for name, rate in ceilings.items())
        console.print(f"ceilings: {products} TFLOP/s; copy {copy / 1e9:,.4g} GB/s", soft_wrap=True)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("case", overflow="fold")  # where the terminal is narrow, figures stay whole
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for case in report["cases"]:
        table.add_row(case["case"], *(cell(case) for cell in columns.values()))
    console.print(table)
    for name, value in report.get("comparisons", {}).items():
        console.print(f"{name}: {value:.3g}", soft_wrap=True)


def run_program(
    config: str,
    dataset: str,
    smoke: bool,
    workdir: pathlib.Path,
    cache_dir: pathlib.Path,
    settings: list[str],
    environment: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Makes one run of the program in a process of its own and returns its metrics.

    Args:
        config: the name of the config file.
        dataset: its argument.
        smoke: whether the argument has `smoke` too.
        workdir, cache_dir: the folders of the run, and of prepared data and embeddings.
        settings: what else stands on the command line.
        environment: variables that differ from those of this process.
    """
    arguments = [
        f"--config=configs/{config}.py:{dataset}{',smoke' if smoke else ''}",
        f"--workdir={workdir}",
        f"--config.cache_dir={cache_dir}",
        *settings,
    ]
    run_module("genrec_jax.main", arguments, environment)
    return files.read_json(workdir / "metrics.json")


def run_module(
    module: str, arguments: list[str], environment: Mapping[str, str] | None = None
) -> float:
    """Runs `python -m module` and returns the seconds from its start to its end."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{' '.join([module, *arguments])} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def result(
    name: str, seconds: list[float], count: int, unit: str, facts: dict[str, Any]
) -> dict[str, Any]:
    """Returns a case that has no ceilings as the JSON has it; `unit` is what `count` counts."""
    median = statistics.median(seconds)
    return {
        "case": name,
        "median_seconds": median,  # of a call
        "spread": (max(seconds) - min(seconds)) / median,
        "rate": count / median,
        "unit": f"{unit}/s",
        "seconds": seconds,
        "count": count,
        "facts": facts,
    }


def write_report(
    benchmark: str,
    smoke: bool,
    arguments: list[str],
    cases: Iterable[dict[str, Any]],
    columns: dict[str, Callable[[dict[str, Any]], str]],
    output: str | None,
) -> list[dict[str, Any]]:
    """Prints a table of cases that have no ceilings, and writes JSON unless `output` is None.

    The cases may still have to be measured one by one; they are returned.
    """
    cases = list(_told(cases))  # first, as processes of theirs may need all memory of the device
    report = head(benchmark, smoke, arguments) | {"cases": cases}
    _print(report, columns)
    if output is not None:
        files.write_json(output, report)
    return cases


def short(rate: float) -> str:
    """Returns three digits, counted in thousands or millions where it has more."""
    for factor, letter in ((1e6, " M"), (1e3, " k")):
        if rate >= factor:
            return f"{rate / factor:,.3g}{letter}"
    return f"{rate:.3g}"
