"""Checkpoints: the ones a run resumes from, and the one it exports to the next stage.

`checkpoints/<step>/` holds `state` (parameters, optimiser, step) and `progress` (JSON: where the
data stands, the best evaluation so far). `export/` holds what the next stage reads, each item
restorable by itself. Orbax writes both beside their place and renames them when they are whole.

Each has a `digests.json` with the SHA-256 of every file of its items, and is compared with it
before anything is restored: Orbax would find most damage too, but says so in many pages, and a
flipped bit it believes.
"""

import copy
import logging
import pathlib
import shutil
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from genrec_jax import files, hub, sharding
from genrec_jax.errors import UserError

_policies = ocp.checkpoint_managers
_log = logging.getLogger(__name__)
MINIMA = {"every_minutes": 0, "keep_last": 1, "keep_best": 1, "keep_every_hours": 0}


class Policy(NamedTuple):
    """When a run saves, beside after each evaluation, and which checkpoints stay."""

    every_minutes: float  # saves between evaluations; 0 for none
    keep_last: int
    keep_best: int  # by validation, where it selects
    keep_every_hours: float  # one in so many, for good; 0 for none


class Checkpoints:
    """The checkpoints of one run, as many as the policy keeps."""

    def __init__(self, workdir: str | pathlib.Path, best_metric: str | None, policy: Policy):
        """Opens or makes the folder, and moves what is damaged out of it.

        `best_metric` is higher for better, None for no best.
        """
        self._directory = pathlib.Path(workdir).absolute() / "checkpoints"
        if jax.process_index() == 0:
            self._move_damaged()
        multihost_utils.sync_global_devices("damaged checkpoints are moved")
        keep = [_policies.LatestN(policy.keep_last)]
        if policy.keep_every_hours:
            keep.append(_policies.EveryNSeconds(round(policy.keep_every_hours * 3600)))

        def metric(metrics):
            return metrics[best_metric]

        if best_metric:
            # As many as the last, for each of these may be better than all before it: whichever of
            # them a run goes on from, its best so far is there.
            num_best = max(policy.keep_best, policy.keep_last)
            best = _policies.BestN(
                n=num_best, get_metric_fn=metric, keep_checkpoints_without_metrics=False
            )
            keep.append(best)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                best_fn=metric if best_metric else None,  # or no metrics are written
                preservation_policy=_policies.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(
                    barrier_sync_fn=_wait_at_barrier, post_finalization_callback=self._add_digests
                ),
            ),
        )

    def _move_damaged(self) -> None:
        workdir = self._directory.parent
        damages = {step: files.damage(self._directory / str(step)) for step in saved_steps(workdir)}
        whole = [step for step, damage in damages.items() if damage is None]
        outcome = f"going on from step {whole[-1]}" if whole else "starting anew"
        for step in damages.keys() - whole:
            place = workdir / "damaged" / str(step)
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(exist_ok=True)
            (self._directory / str(step)).rename(place)
            _log.warning("%s: moved this checkpoint to %s, %s", damages[step], place, outcome)

    def _add_digests(self) -> None:
        """Completes the checkpoint that is about to be renamed; Orbax has one at a time."""
        (unfinished,) = self._directory.glob("*.orbax-checkpoint-tmp*")
        # Only of the items: Orbax has yet to change what lies beside them.
        files.write_digests(unfinished, "*/**/*")

    def save(self, state: dict, progress: dict, metrics: dict[str, float] | None) -> None:
        """Starts to write a checkpoint; the caller may go on, donate `state`, change `progress`.

        `metrics` are those of the evaluation at this step, None between evaluations.
        """
        progress = copy.deepcopy(progress)  # Orbax turns it into JSON after it has returned
        self._manager.save(
            int(state["step"]),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
            ),
            metrics=metrics,
        )

    def check_best(self, step: int) -> None:
        """Raises UserError unless the best checkpoint, of this step, is still there."""
        if step not in self._manager.all_steps():
            raise UserError(
                f"{self._directory / str(step)} is missing or damaged, and no other is as good: "
                "start again in another --workdir"
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


def _wait_at_barrier(key: str, timeout_ms: int) -> None:
    """Waits for all processes, but not once this one's part of a save has failed.

    Orbax would wait then too, 10 minutes, for others that wait for this part, before it raises.
    """
    if error := sys.exception():
        raise error
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


def saved_steps(workdir: str | pathlib.Path) -> list[int]:
    """Returns the steps of the checkpoints in `workdir`, ascending."""
    paths = (pathlib.Path(workdir) / "checkpoints").glob("*")
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def export(workdir: str | pathlib.Path, arrays: dict[str, Any], meta: dict) -> None:
    """Writes `export/`: each entry of `arrays`, a pytree, as an item of its own, and `meta`.

    Each process writes what its devices have of the arrays, so all must call this.
    """
    path = _export_path(workdir)
    items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            path, ocp.args.Composite(**items, meta=ocp.args.JsonSave(meta)), force=True
        )
    if jax.process_index() == 0:
        for mark in path.rglob("commit_success.txt"):
            mark.write_text("yes\n")  # Orbax writes where that was, and reads that it is there
        files.write_digests(path, "**/*")
    multihost_utils.sync_global_devices("the export is whole")


def load_export(
    workdir: str | pathlib.Path, names: Iterable[str], mesh: jax.sharding.Mesh | None = None
) -> tuple[dict, dict]:
    """Returns the named arrays of an export, in host memory, and its `meta`.

    Args:
        workdir: of the run that exported them, on whatever devices.
        names: of the entries.
        mesh: on which `state` is to lie, as `sharding.of_tree` says, instead of in host memory: no
            host reads more of it than its devices need.

    Raises:
        UserError: if there is no export in `workdir`, it is a name on the hub, a file is missing
            or not what was written, or it is of a stage that has no such arrays.
    """
    hub.check_folder(workdir)
    path = _export_path(workdir)
    names = list(names)
    there = _check_whole(workdir, path)
    for name in names:
        if name not in there:
            raise UserError(
                f"{workdir} is the run of another stage: it exports no {name}, only "
                f"{', '.join(sorted(there - {'meta'}))}"
            )
    items = {name: _restore(path / name, mesh if name == "state" else None) for name in names}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(
            path, ocp.args.Composite(**items, meta=ocp.args.JsonRestore())
        )
    return {name: restored[name] for name in names}, restored["meta"]


def _restore(item: pathlib.Path, mesh: jax.sharding.Mesh | None) -> ocp.args.PyTreeRestore:
    """Returns what Orbax wants, or it would look for the devices that the item was saved from."""
    shapes = ocp.StandardCheckpointHandler().metadata(item).tree
    if mesh is None:
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    else:
        places = sharding.of_tree(mesh, shapes)
        args = jax.tree.map(lambda place: ocp.ArrayRestoreArgs(sharding=place), places)
    return ocp.args.PyTreeRestore(restore_args=args)


def _check_whole(workdir: str | pathlib.Path, path: pathlib.Path) -> set[str]:
    """Returns the names of the items in an export; each file must be the one that was written."""
    if not (path / files.DIGESTS).is_file():
        missing = path / files.DIGESTS if path.is_dir() else path
        raise UserError(f"no finished run in {workdir}: {missing} is missing; run that stage first")
    damage = files.damage(path)
    if damage:
        raise UserError(
            f"{damage}: copy it again, or delete {path.parent / 'metrics.json'} and run that stage "
            "again, which goes on from its checkpoints"
        )
    return {item.name for item in path.iterdir() if item.is_dir()}


def _export_path(workdir) -> pathlib.Path:
    return pathlib.Path(workdir).absolute() / "export"
