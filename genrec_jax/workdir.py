"""A run's folder: one config, one result."""

import json
import logging
import pathlib
from collections.abc import Callable

from genrec_jax import checkpoint, files
from genrec_jax.errors import UserError

_log = logging.getLogger(__name__)


def run_once(
    workdir: str | pathlib.Path,
    config: dict,
    run: Callable[[], dict[str, float]],
    again: bool = False,
) -> dict[str, float]:
    """Returns the metrics of the run in `workdir`, running it unless it is finished, or `again`.

    `config.json` says what the folder is for; `metrics.json` exists once the run is finished. A
    mistake of the user's that shows before anything is saved takes `config.json` away again, so
    that the corrected command may use the same folder.

    Raises:
        UserError: if the folder belongs to another config, or cannot be written.
    """
    workdir = pathlib.Path(workdir)
    config = json.loads(json.dumps(config))  # as it will be read back: tuples are lists
    config_path, metrics_path = workdir / "config.json", workdir / "metrics.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        is_new = not config_path.exists()
        if is_new:
            files.write_json(config_path, config)
        else:
            _check_same(workdir, files.read_json(config_path), config)
    except OSError as error:
        raise UserError(f"cannot use {workdir} as --workdir: {error.strerror}") from error
    if metrics_path.exists() and not again:
        _log.info("%s is finished", workdir)
        return files.read_json(metrics_path)
    try:
        metrics = run()
    except UserError:
        if is_new and not checkpoint.saved_steps(workdir):
            config_path.unlink()
        raise
    files.write_json(metrics_path, metrics)
    return metrics


def _check_same(workdir: pathlib.Path, there: dict, here: dict) -> None:
    there, here = _flatten(there), _flatten(here)
    missing = object()
    changed = [
        f"{key} is {there.get(key, 'absent')!r} there and {here.get(key, 'absent')!r} here"
        for key in sorted(there | here)
        if there.get(key, missing) != here.get(key, missing)
    ]
    if changed:
        more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{workdir} holds a run of another config ({'; '.join(changed[:3])}{more}): "
            "choose another --workdir, or delete that one"
        )


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
