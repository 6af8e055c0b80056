"""Checkpoints: the ones a run resumes from, and the one it exports to the next stage.

`checkpoints/<step>/` holds `state` (parameters, optimiser, step) and `progress` (JSON: where the
data stands, the best evaluation so far). `export/` holds what the next stage reads, each item
restorable by itself. Orbax writes both beside their place and renames them when they are whole.
"""

import copy
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import orbax.checkpoint as ocp

from genrec_jax import files
from genrec_jax.errors import UserError

_policies = ocp.checkpoint_managers
_DIGESTS = "digests.json"


class Checkpoints:
    """The checkpoints of one run: the newest, the one before it, and the best."""

    def __init__(self, workdir: str | pathlib.Path, best_metric: str | None):
        """Opens or makes the folder; `best_metric` is higher for better, None for no best."""
        keep = [_policies.LatestN(2)]
        if best_metric:
            keep.append(_policies.BestN(n=1, get_metric_fn=lambda metrics: metrics[best_metric]))
        self._manager = ocp.CheckpointManager(
            pathlib.Path(workdir).absolute() / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_policies.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, state: dict, progress: dict, metrics: dict[str, float]) -> None:
        """Starts to write a checkpoint; the caller may go on, donate `state`, change `progress`."""
        progress = copy.deepcopy(progress)  # Orbax turns it into JSON after it has returned
        self._manager.save(
            int(state["step"]),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
            ),
            metrics=metrics,
        )

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def restore(self, step: int, abstract_state: Any) -> tuple[dict, dict]:
        """Returns the state, laid out like `abstract_state`, and the progress of one step."""
        self._manager.wait_until_finished()
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract_state), progress=ocp.args.JsonRestore()
            ),
        )
        return restored["state"], restored["progress"]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Waits until everything is written."""
        self._manager.close()


def saved_steps(workdir: str | pathlib.Path) -> list[int]:
    """Returns the steps of the checkpoints in `workdir`, ascending."""
    paths = (pathlib.Path(workdir) / "checkpoints").glob("*")
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def export(workdir: str | pathlib.Path, arrays: dict[str, Any], meta: dict) -> None:
    """Writes `export/`: each entry of `arrays`, a pytree, as an item of its own, and `meta`.

    `digests.json` comes last, the SHA-256 of every file: an export without it is not finished.
    """
    path = _export_path(workdir)
    items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            path, ocp.args.Composite(**items, meta=ocp.args.JsonSave(meta)), force=True
        )
    written = sorted(file for file in path.rglob("*") if file.is_file())
    digests = {file.relative_to(path).as_posix(): files.sha256(file) for file in written}
    files.write_json(path / _DIGESTS, digests)


def load_export(workdir: str | pathlib.Path, names: Iterable[str]) -> tuple[dict, dict]:
    """Returns the named arrays of an export, in host memory, and its `meta`.

    Raises:
        UserError: if there is no export in `workdir`, a file of it is missing or not what was
            written, or it is of a stage that has no such arrays.
    """
    path = _export_path(workdir)
    names = list(names)
    there = _check_whole(workdir, path)
    for name in names:
        if name not in there:
            raise UserError(
                f"{workdir} is the run of another stage: it exports no {name}, only "
                f"{', '.join(sorted(there - {'meta'}))}"
            )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(
            path,
            ocp.args.Composite(
                **{name: ocp.args.StandardRestore() for name in names}, meta=ocp.args.JsonRestore()
            ),
        )
    return {name: jax.device_get(restored[name]) for name in names}, restored["meta"]


def _check_whole(workdir: str | pathlib.Path, path: pathlib.Path) -> set[str]:
    """Returns the names of the items in an export; each file must be the one that was written.

    Orbax would find most damage too, but says so in many pages, and reads past some of it.
    """
    if not (path / _DIGESTS).is_file():
        missing = path / _DIGESTS if path.is_dir() else path
        raise UserError(f"no finished run in {workdir}: {missing} is missing; run that stage first")
    remedy = (
        f"copy it again, or delete {path.parent / 'metrics.json'} and run that stage again, which "
        "goes on from its checkpoints"
    )
    try:
        digests = files.read_json(path / _DIGESTS)
    except ValueError as error:
        raise UserError(f"{path / _DIGESTS} is damaged: {remedy}") from error
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise UserError(f"{path / name} is missing: {remedy}")
        if files.sha256(path / name) != digest:
            raise UserError(f"{path / name} is damaged: {remedy}")
    return {name.partition("/")[0] for name in digests if "/" in name}


def _export_path(workdir) -> pathlib.Path:
    return pathlib.Path(workdir).absolute() / "export"
