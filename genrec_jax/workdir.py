"""A run's folder: one config, one result."""

import contextlib
import fcntl
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterator

from genrec_jax import checkpoint, distributed, files
from genrec_jax.errors import UserError

_log = logging.getLogger(__name__)


def cache_dir(config, workdir: pathlib.Path) -> pathlib.Path:
    """Returns where a run finds prepared data and embeddings, which other runs may share."""
    return pathlib.Path(config.cache_dir or workdir / "cache")


def run_once(
    workdir: str | pathlib.Path,
    config: dict,
    run: Callable[[], dict[str, float]],
    again: bool = False,
) -> dict[str, float]:
    """Returns the metrics of the run in `workdir`, running it unless it is finished, or `again`.

    `config.json` says what the folder is for; `metrics.json` exists once the run is finished. A
    mistake of the user's that shows before anything is saved takes `config.json` away again, so
    that the corrected command may use the same folder. With `again` the folder may be one of
    another config of the same task.

    Of several processes the first alone looks into the folder, for all, and writes the result.

    Raises:
        UserError: if the folder belongs to another config, is in use, or cannot be written, or
            another process has another config.
    """
    workdir = pathlib.Path(workdir)
    config = json.loads(json.dumps(config))  # as it will be read back: tuples are lists
    distributed.check_same("another config", config, "start all with the same arguments")
    if not distributed.is_first():
        return _follow(run)
    try:
        is_new = not workdir.exists()
        workdir.mkdir(parents=True, exist_ok=True)
        try:
            with _locked(workdir):
                return _run(workdir, config, run, again)
        except UserError:
            if is_new and not any(workdir.iterdir()):
                workdir.rmdir()
            raise
    except OSError as error:
        if error.filename and pathlib.Path(error.filename) == workdir:
            raise UserError(f"cannot use {workdir} as --workdir: {error.strerror}") from error
        raise


def _follow(run: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Does what process 0 does, and returns what it returns."""
    finished = distributed.from_first(dict)
    if finished is not None:
        return finished
    run()
    return distributed.from_first(dict)


def _run(workdir: pathlib.Path, config: dict, run, again: bool) -> dict[str, float]:
    config_path, metrics_path = workdir / "config.json", workdir / "metrics.json"
    is_new = not config_path.exists()
    finished = distributed.from_first(lambda: _begin(workdir, config, again))
    if finished is not None:
        return finished
    try:
        metrics = run()
    except UserError:
        if is_new and not checkpoint.saved_steps(workdir):
            config_path.unlink()
        raise
    files.write_json(metrics_path, metrics)
    return distributed.from_first(lambda: metrics)


def _begin(workdir: pathlib.Path, config: dict, again: bool) -> dict[str, float] | None:
    """Returns the metrics of a finished run, or None, with the folder ready for a run."""
    config_path, metrics_path = workdir / "config.json", workdir / "metrics.json"
    is_new = not config_path.exists()
    if not is_new:
        _check_same(workdir, _read(config_path), config, only="task" if again else None)
    if is_new or again:
        files.write_json(config_path, config)
    if metrics_path.exists():
        if not again:
            _log.info("%s is finished", workdir)
            return _read(metrics_path)
        metrics_path.unlink()
    return None


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps others out of the folder; the system takes the lock off when the process ends."""
    folder = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process runs in {workdir}: wait for its end, or choose another --workdir"
            ) from error
        except OSError as error:  # some network file systems have no locks
            _log.warning(
                "%s cannot be locked (%s): let one process at a time use it", workdir, error
            )
        yield
    finally:
        os.close(folder)


def _read(path: pathlib.Path) -> dict:
    try:
        return files.read_json(path)
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): delete {path.parent}, or choose another --workdir"
        ) from error


def _check_same(workdir: pathlib.Path, there: dict, here: dict, only: str | None) -> None:
    """Raises UserError unless the configs are the same, or the same in `only` one key."""
    there, here = files.flatten(there), files.flatten(here)
    missing = object()
    changed = [
        f"{key} is {there.get(key, 'absent')!r} there and {here.get(key, 'absent')!r} here"
        for key in sorted(there | here)
        if there.get(key, missing) != here.get(key, missing) and only in (None, key)
    ]
    if changed:
        more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{workdir} holds a run of another config ({'; '.join(changed[:3])}{more}): "
            "choose another --workdir, or delete that one"
        )
