"""Checkpoints to resume from and to hand on."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax import checkpoint, sharding
from genrec_jax.errors import UserError


def state(step):
    return {"params": {"w": jnp.full((2, 3), step, jnp.float32)}, "step": jnp.int32(step)}


def abstract():
    everywhere = sharding.replicated(sharding.make_mesh())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), state(0)
    )


POLICY = checkpoint.Policy(every_minutes=0.0, keep_last=2, keep_best=2, keep_every_hours=0.0)


def save(workdir, scores, best_metric="score", **policy):
    """Saves at each step, None between evaluations."""
    with checkpoint.Checkpoints(workdir, best_metric, POLICY._replace(**policy)) as checkpoints:
        for step, score in scores.items():
            metrics = None if score is None else {"score": score}
            checkpoints.save(state(step), {"note": f"at {step}"}, metrics)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_newest_two_and_the_best_two_are_kept(tmp_path):
    save(tmp_path, {10: 0.5, 20: 0.9, 30: 0.1, 40: 0.2, 50: 0.4})
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"10", "20", "40", "50"}


SCORES = {10: 0.5, 20: None, 30: 0.9, 40: 0.1, 50: None, 60: 0.2, 70: None}


@pytest.mark.parametrize(
    "policy, kept",
    [
        ({}, [10, 30, 60, 70]),
        ({"keep_last": 1, "keep_best": 1}, [30, 70]),
        ({"keep_last": 3, "keep_best": 1}, [10, 30, 50, 60, 70]),  # three of the best
        ({"keep_last": 1, "keep_best": 3}, [10, 30, 60, 70]),
        ({"best_metric": None}, [60, 70]),
        ({"best_metric": None, "keep_every_hours": 0.5}, [10, 60, 70]),
    ],
)
def test_the_policy_decides_what_is_kept_however_often_the_run_starts(tmp_path, policy, kept):
    save(tmp_path / "at once", SCORES, **policy)
    for step, score in SCORES.items():
        save(tmp_path / "one by one", {step: score}, **policy)
    for folder in ("at once", "one by one"):
        assert checkpoint.saved_steps(tmp_path / folder) == kept


def test_state_and_progress_come_back(tmp_path):
    save(tmp_path, {10: 0.3, 20: 0.1})
    with checkpoint.Checkpoints(tmp_path, "score", POLICY) as checkpoints:
        assert checkpoints.latest_step() == 20
        restored, progress = checkpoints.restore(20, abstract())
        np.testing.assert_array_equal(restored["params"]["w"], np.full((2, 3), 20))
        assert restored["params"]["w"].sharding.device_set == set(jax.devices())
        assert progress == {"note": "at 20"}
        restored, progress = checkpoints.restore(10, abstract())
        assert int(restored["step"]) == 10 and progress == {"note": "at 10"}


def test_what_follows_the_call_does_not_enter_the_checkpoint(tmp_path):
    grow = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    for attempt in range(8):  # one alone may be written before the caller goes on
        now, progress = jax.device_put(state(10)), {"note": "at 10", "more": {"n": 1}}
        with checkpoint.Checkpoints(tmp_path / str(attempt), "score", POLICY) as checkpoints:
            checkpoints.save(now, progress, {"score": 0.5})
            progress["note"] = "later"
            progress["more"]["n"] = 2
            grow(now)
        with checkpoint.Checkpoints(tmp_path / str(attempt), "score", POLICY) as checkpoints:
            restored, progress = checkpoints.restore(10, abstract())
        np.testing.assert_array_equal(restored["params"]["w"], np.full((2, 3), 10))
        assert progress == {"note": "at 10", "more": {"n": 1}}


def test_what_a_killed_save_leaves_is_no_checkpoint(tmp_path):
    save(tmp_path, {10: 0.3, 20: 0.1})
    folder = tmp_path / "checkpoints"
    half = folder / "30.orbax-checkpoint-tmp"
    (folder / "20").rename(half)  # as if it had not been renamed yet
    with checkpoint.Checkpoints(tmp_path, "score", POLICY) as checkpoints:
        assert checkpoints.latest_step() == 10
        restored, progress = checkpoints.restore(10, abstract())
        assert int(restored["step"]) == 10 and progress == {"note": "at 10"}
        checkpoints.save(state(20), {"note": "again"}, {"score": 0.2})
    assert {path.name for path in folder.iterdir()} == {"10", "20"}
    assert checkpoint.saved_steps(tmp_path) == [10, 20]


@pytest.mark.once
def test_whenever_a_save_is_killed_a_whole_checkpoint_is_left(tmp_path):
    program = pathlib.Path(__file__).with_name("killed_saves.py")
    done = subprocess.run(  # it can kill in each change of files; here in every sixth
        [sys.executable, program, tmp_path / "run", "6"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    left = done.stdout.split()
    assert left[0] == "10" and left[-1] == "20" and len(left) > 4


@pytest.mark.parametrize("damage", [cut_off, flip_a_bit, pathlib.Path.unlink])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage, caplog):
    save(tmp_path / "whole", {10: 0.3, 20: 0.1})
    folder = pathlib.Path("checkpoints") / "20"
    names = [
        path.relative_to(tmp_path / "whole")
        for path in (tmp_path / "whole" / folder).glob("*/**/*")
        if path.is_file()
    ]
    assert len(names) > 5
    for number, name in enumerate([*names, folder / "digests.json"]):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", copy)
        damage(copy / name)
        caplog.clear()
        with checkpoint.Checkpoints(copy, "score", POLICY) as checkpoints:
            assert checkpoints.latest_step() == 10
            restored, progress = checkpoints.restore(10, abstract())
            assert int(restored["step"]) == 10 and progress == {"note": "at 10"}
            checkpoints.save(state(20), {"note": "again"}, {"score": 0.2})
        (record,) = caplog.records
        assert str(copy / folder) in record.message
        assert record.message.endswith(f"to {copy / 'damaged' / '20'}, going on from step 10")
        assert (copy / "damaged" / "20").is_dir()
        assert checkpoint.saved_steps(copy) == [10, 20]


def test_without_a_whole_checkpoint_all_starts_anew(tmp_path, caplog):
    save(tmp_path, {10: 0.3, 20: 0.1})
    for path in (tmp_path / "checkpoints").glob("*/digests.json"):
        path.unlink()
    with checkpoint.Checkpoints(tmp_path, "score", POLICY) as checkpoints:
        assert checkpoints.latest_step() is None
    assert all(record.message.endswith("starting anew") for record in caplog.records)
    assert checkpoint.saved_steps(tmp_path) == [] and len(caplog.records) == 2


def test_a_new_folder_has_no_step(tmp_path):
    with checkpoint.Checkpoints(tmp_path, None, POLICY) as checkpoints:
        assert checkpoints.latest_step() is None
    assert checkpoint.saved_steps(tmp_path) == []


def test_items_of_an_export_are_read_one_by_one(tmp_path):
    ids = np.arange(6, dtype=np.int32).reshape(3, 2)
    arrays = {"semantic_ids": ids, "state": {"params": {"a": np.ones(2)}, "step": np.int32(7)}}
    checkpoint.export(tmp_path, arrays, {"item_ids": ["x", "y", "z"]})
    restored, meta = checkpoint.load_export(tmp_path, ["semantic_ids"])
    assert list(restored) == ["semantic_ids"] and meta == {"item_ids": ["x", "y", "z"]}
    np.testing.assert_array_equal(restored["semantic_ids"], ids)
    assert restored["semantic_ids"].dtype == np.int32
    restored, _ = checkpoint.load_export(tmp_path, ["state"])
    assert int(restored["state"]["step"]) == 7


def test_an_export_is_replaced_as_a_whole(tmp_path):
    checkpoint.export(tmp_path, {"a": np.zeros(2), "b": np.zeros(2)}, {})
    checkpoint.export(tmp_path, {"a": np.ones(3)}, {"new": True})
    restored, meta = checkpoint.load_export(tmp_path, ["a"])
    np.testing.assert_array_equal(restored["a"], np.ones(3))
    assert meta == {"new": True}


def test_an_export_does_not_say_where_it_was_written(tmp_path):
    checkpoint.export(tmp_path, {"a": np.zeros(2)}, {})
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(str(tmp_path).encode() in data for data in written)


def test_a_missing_export_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no finished run in .* run that stage first"):
        checkpoint.load_export(tmp_path, ["a"])


def test_the_run_of_another_stage_is_named(tmp_path):
    checkpoint.export(tmp_path, {"a": np.zeros(2), "b": np.zeros(2)}, {})
    with pytest.raises(UserError, match=r"is the run of another stage: it exports no c, only a, b"):
        checkpoint.load_export(tmp_path, ["a", "c"])


def test_an_export_that_was_not_finished_is_none(tmp_path):
    checkpoint.export(tmp_path, {"a": np.zeros(2)}, {})
    (tmp_path / "export" / "digests.json").unlink()  # which is written last
    with pytest.raises(UserError, match=r"no finished run in .*digests.json is missing; run that"):
        checkpoint.load_export(tmp_path, ["a"])


@pytest.mark.parametrize("damage", [cut_off, flip_a_bit, pathlib.Path.unlink])
def test_damage_anywhere_in_an_export_is_found(tmp_path, damage):
    arrays = {"a": {"b": [np.arange(1000), np.ones(3)]}, "c": np.ones(3)}
    checkpoint.export(tmp_path, arrays, {"titles": ["x" * 100]})
    folder = tmp_path / "export"
    digests = json.loads((folder / "digests.json").read_text())
    assert {"meta/metadata", "a/_METADATA", "a/manifest.ocdbt"} < set(digests)
    everything = {path for path in folder.rglob("*") if path.is_file()}
    assert everything == {folder / name for name in [*digests, "digests.json"]}
    for name in digests:
        whole = (folder / name).read_bytes()
        damage(folder / name)
        with pytest.raises(UserError) as error:
            checkpoint.load_export(tmp_path, ["a", "c"])
        message = str(error.value)
        assert f"{folder / name} is " in message
        assert f"copy it again, or delete {tmp_path / 'metrics.json'} and run that" in message
        (folder / name).write_bytes(whole)
    restored, meta = checkpoint.load_export(tmp_path, ["a", "c"])
    np.testing.assert_array_equal(restored["a"]["b"][0], np.arange(1000))
    assert meta == {"titles": ["x" * 100]}


def test_digests_that_are_damaged_themselves(tmp_path):
    checkpoint.export(tmp_path, {"a": np.zeros(2)}, {})
    (tmp_path / "export" / "digests.json").write_text('{"meta/metadata": "')
    with pytest.raises(UserError, match=r"digests.json is damaged: copy it again, or delete"):
        checkpoint.load_export(tmp_path, ["a"])
