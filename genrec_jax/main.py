"""The command line: `python -m genrec_jax.main --config=configs/NAME.py[:DATASET][,smoke]`."""

import difflib
import importlib
import itertools
import logging
import os
import pathlib
import pkgutil
import sys

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from genrec_jax import (
    checks,
    distributed,
    files,
    preemption,
    tables,
    tasks,
    trackers,
    workdir,
    xla,
)
from genrec_jax.errors import UserError, exit_on_error

_DESCRIPTION = "The run's config file and its argument, such as configs/rqvae.py:beauty,smoke."
_CONFIG = config_flags.DEFINE_config_file("config", None, _DESCRIPTION)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder. Default: runs/NAME-DATASET.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, if this is one of several and no cluster says so."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0 on.")
_JOIN_SECONDS = flags.DEFINE_float("join_seconds", 300.0, "How long processes wait for each other.")
_ALIASES = {"config.data.items": "config.data.items_file"}  # config flags would find a method
# Quick stages that read files which may change, or write elsewhere: done each time.
_REPEATED = (
    "inspect",
    "recommend",
    "report",
    "summary",
    "push_to_hub",
    "tokenizer_report",
    "profile_quantize",
)
_STDOUT = 1  # file descriptor
_FOR_SEVERAL = ("prepare", "embed", "tokenizer", "retrieval", "sasrec", "hybrid", "recommend")


def main(argv: list[str]) -> None:
    """Runs the stage that the config names and prints its metrics."""
    if len(argv) > 1:
        raise UserError(
            f"unexpected argument {argv[1]!r}: settings are given as --config.KEY=VALUE"
        )
    config = _CONFIG.value
    name = f"{config.name}-{config.data.dataset}" if "data" in config else config.name
    directory = pathlib.Path(_WORKDIR.value or f"runs/{name}")
    task = _task(config.task)
    if "plan" in config:
        checks.at_least(config, {"plan.num_devices": 0})
    if "trackers" in config:
        trackers.check(config.trackers)
    if "plan" in config and config.plan.num_devices:
        tables.print_plan(task.plan(config, directory))
        return
    distributed.join(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _JOIN_SECONDS.value
    )
    if not distributed.is_first():
        logging.getLogger("genrec_jax").setLevel(logging.ERROR)  # the first says it for all
    if jax.distributed.is_initialized() and config.task not in _FOR_SEVERAL:
        raise UserError(f"{config.task} runs in one process: start it once, outside of the cluster")
    preemption.listen()
    metrics = workdir.run_once(
        directory,
        config.to_dict(),
        lambda: task.run(config, directory),
        again=config.task in _REPEATED,
    )
    if not distributed.is_first():
        return
    try:
        _print_results(directory, metrics)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # for what is still to be flushed
        sys.exit(1)  # as Rich does


def _print_results(directory: pathlib.Path, metrics: dict[str, float]) -> None:
    tables.print_metrics(metrics)
    if (directory / "examples.json").exists():
        tables.print_examples(files.read_json(directory / "examples.json"))
    if (directory / "report.json").exists():
        report = files.read_json(directory / "report.json")
        tables.print_collisions(report.get("collision_groups", []))
        tables.print_profile(report.get("cases", []))
        tables.print_histograms(report.get("histograms", []))
        tables.print_problems(report.get("problems", []))
    print(f"All of it is in {directory}")


def _task(name: str):
    names = sorted(module.name for module in pkgutil.iter_modules(tasks.__path__))
    if name not in names:
        raise UserError(f"unknown task {name!r}: choose one of {', '.join(names)}")
    return importlib.import_module(f"genrec_jax.tasks.{name}")


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line, checking first what config_flags would answer in riddles."""
    argv[1:] = map(_without_alias, argv[1:])  # in place: config flags read sys.argv
    given = _arguments(argv)
    if "config" not in given:
        if not any(name.startswith("help") for name in given):
            raise UserError("no --config: give one, such as --config=configs/rqvae.py")
        return flags.FLAGS(argv)
    keys = _keys(_load_config(given["config"]))
    for name in given:
        key = name.removeprefix("config.")
        if key != name and key not in keys:
            close = difflib.get_close_matches(key, keys, n=3, cutoff=0.0)
            raise UserError(f"unknown config key {key!r}; the nearest are {', '.join(close)}")
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        raise UserError(str(error)) from error


def _without_alias(arg: str) -> str:
    name, equals, value = arg.partition("=")
    bare = name.lstrip("-")
    return name.replace(bare, _ALIASES.get(bare, bare)) + equals + value


def _arguments(argv: list[str]) -> dict[str, str | None]:
    """Returns the flags on the command line with their values, `--a=b` or `--a b`."""
    given = {}
    for arg, following in itertools.zip_longest(argv[1:], argv[2:]):
        if arg.startswith("-"):
            name, equals, value = arg.lstrip("-").partition("=")
            given[name] = value if equals else following
    return given


def _load_config(value: str | None) -> ConfigDict:
    """Returns the config as its file makes it, without overrides."""
    path = (value or "").partition(":")[0]
    if not pathlib.Path(path).is_file():
        there = sorted(str(p) for p in pathlib.Path("configs").glob("*.py") if p.stem != "common")
        raise UserError(f"no config file {path!r}; there are {', '.join(there) or 'none here'}")
    flag_values, argv = flags.FlagValues(), ["", f"--config={value}"]
    config_flags.DEFINE_config_file(
        "config", None, _DESCRIPTION, flag_values=flag_values, sys_argv=argv
    )
    try:
        flag_values(argv)
    except flags.IllegalFlagValueError as error:
        cause = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise  # a defect of the config file: its traceback is what its author needs
        raise cause from error
    return flag_values.config


def _keys(config: ConfigDict, prefix: str = "") -> set[str]:
    keys = set()
    for name, value in config.items():
        keys.add(prefix + name)
        if isinstance(value, ConfigDict):
            keys |= _keys(value, f"{prefix}{name}.")
    return keys


def _set_up_logging() -> None:
    # Orbax says dozens of lines a save, and pages of each error that it then raises.
    absl_logging.set_verbosity(absl_logging.FATAL)
    sys.unraisablehook = _skip_echoes
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("genrec_jax")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _skip_echoes(unraisable) -> None:
    """Skips what the other writers of a save say after one has failed, whose error is raised."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def start() -> None:
    """Runs the command line in `sys.argv`, and exits with its status."""
    xla.set_up()
    _set_up_logging()
    with distributed.ending_together():
        app.run(exit_on_error(main), flags_parser=exit_on_error(parse_flags))


if __name__ == "__main__":
    start()
