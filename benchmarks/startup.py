"""Time to the first training step of a fresh process, without and with compiled programs on disk.

    python -m benchmarks.startup [--smoke] [--output=FILE.json]

Each process trains one step, see benchmarks/first_step.py. The first of a pair finds JAX's folder
of compiled programs `empty`, the second one `filled` by the first; which programs are kept is a
setting of `genrec_jax.xla`. The table has the median seconds of all and of the stages: `import` of
JAX and the package, `init` of the state, with its compilation, `trace` and `compile` of the
training step, and the `step`; the JSON also those of the start of the `device` and of `data` to it.
What is left of the total is the start and the end of Python. `saved` is the share that the cache
saves.
"""

import pathlib
import statistics
import tempfile
from typing import Any

from benchmarks import common
from genrec_jax import files

MODELS = ("rqvae", "retrieval")
STAGES = ("import", "device", "data", "init", "trace", "compile", "step")
_SHOWN = ("import", "init", "trace", "compile", "step")  # the others are short


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Measures all cases, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        common.check_writable(output)
    repeats = 1 if smoke else 3
    cases = (case for model in MODELS for case in _cases(model, smoke, repeats))
    columns = {
        "s": lambda case: f"{case['median_seconds']:.3g}",
        "spread": lambda case: f"{case['spread']:.0%}",
    }
    columns |= {stage: _stage_cell(stage) for stage in _SHOWN}
    columns["saved"] = lambda case: f"{case['facts']['saved']:.0%}"
    common.write_report("startup", smoke, arguments, cases, columns, output)


def _stage_cell(stage: str):
    return lambda case: f"{case['facts'][stage]:.2g}"


def _cases(model: str, smoke: bool, repeats: int) -> list[dict[str, Any]]:
    """Returns the cases of a model: with an empty cache and with a filled one."""
    without, found = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            without.append(first_step(model, smoke, cache))
            found.append(first_step(model, smoke, cache))
    cases = [
        common.result(
            f"{model}, {name}",
            [total for total, _ in runs],
            1,
            "starts",
            {stage: statistics.median(seconds[stage] for _, seconds in runs) for stage in STAGES},
        )
        for name, runs in (("empty", without), ("filled", found))
    ]
    for case in cases:
        saved = 1 - case["median_seconds"] / cases[0]["median_seconds"]
        case["facts"]["saved"] = saved
    return cases


def first_step(model: str, smoke: bool, cache: str) -> tuple[float, dict[str, float]]:
    """Returns the seconds of a fresh process, all and by stage."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "seconds.json"
        arguments = [model, str(path), *["smoke"] * smoke]
        environment = {"JAX_COMPILATION_CACHE_DIR": cache}
        total = common.run_module("benchmarks.first_step", arguments, environment)
        return total, files.read_json(path)


if __name__ == "__main__":
    common.start(run)
