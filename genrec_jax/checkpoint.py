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

from genrec_jax.errors import UserError

_policies = ocp.checkpoint_managers


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
    """Writes `export/`: each entry of `arrays`, a pytree, as an item of its own, and `meta`."""
    items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            _export_path(workdir),
            ocp.args.Composite(**items, meta=ocp.args.JsonSave(meta)),
            force=True,
        )


def load_export(workdir: str | pathlib.Path, names: Iterable[str]) -> tuple[dict, dict]:
    """Returns the named arrays of an export, in host memory, and its `meta`.

    Raises:
        UserError: if there is no export in `workdir`.
    """
    path = _export_path(workdir)
    if not path.is_dir():
        raise UserError(f"no finished run in {workdir}: {path} is missing; run that stage first")
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(
            path,
            ocp.args.Composite(
                **{name: ocp.args.StandardRestore() for name in names}, meta=ocp.args.JsonRestore()
            ),
        )
    return {name: jax.device_get(restored[name]) for name in names}, restored["meta"]


def _export_path(workdir) -> pathlib.Path:
    return pathlib.Path(workdir).absolute() / "export"
