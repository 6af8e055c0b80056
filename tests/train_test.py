"""The training loop, on a problem that trains in milliseconds."""

import itertools
import json
import os
import signal
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec_jax import checkpoint, errors, optimizer, profiling, sharding, train
from genrec_jax.errors import Preempted, UserError
from tests.train_step_test import (
    BATCH,
    DATA,
    NUM_SAMPLES,
    X,
    loss_fn,
    loss_without_dropout,
)


def init(rng, data):
    return {"w": 0.1 * jax.random.normal(rng, (3,))}


def fit(workdir, scores=None, *, select=None, patience=0, num_steps=40, loss=loss_fn, **changes):
    """Fits with an evaluation every ten steps, scripted by `scores` if they are given."""
    mesh = sharding.make_mesh()
    tx, schedule = optimizer.make(
        name="adamw",
        num_steps=num_steps,
        learning_rate=0.05,
        schedule="cosine",
        warmup_steps=5,
        final_fraction=0.0,
        weight_decay=0.0,
        clip_norm=0.0,
    )
    scripted = iter(scores or [])

    def evaluate(params):
        error = ((X @ np.asarray(params["w"]) - DATA["y"]) ** 2).mean()
        score = next(scripted) if scores else -float(error)
        if score is None:
            raise KeyboardInterrupt
        return {"score": score}

    arguments = {
        "name": "test",
        "workdir": workdir,
        "mesh": mesh,
        "init": init,
        "loss_fn": loss,
        "tx": tx,
        "schedule": schedule,
        "data": sharding.replicate(mesh, DATA),
        "data_fingerprint": "here",
        "num_samples": NUM_SAMPLES,
        "batch_size": BATCH,
        "packing": None,
        "gather": None,
        "accumulation": 1,
        "ema_decay": 0.0,
        "rules": None,
        "num_steps": num_steps,
        "steps_per_call": 4,
        "eval_every": 10,
        "skip_nonfinite": 0,
        "checkpointing": checkpoint.Policy(0.0, 2, 2, 0.0),
        "evaluate": evaluate,
        "headline": ("score",),
        "select": select,
        "patience": patience,
        "seed": 0,
        "profile": profiling.Interval(range(0), workdir / "profile"),
        "trackers": "tensorboard",
    }
    return train.fit(**arguments | changes)


def without_time(metrics):
    return {key: value for key, value in metrics.items() if not key.startswith("time/")}


def lines(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [without_time(row) for row in rows]


def test_averaged_parameters_are_evaluated_and_kept(tmp_path):
    seen = []

    def evaluate(params):
        seen.append(np.asarray(params["w"]))
        return {"score": 0.0}

    result = fit(tmp_path / "a", ema_decay=0.5, num_steps=2, evaluate=evaluate)
    for num_steps in (1, 2):  # without an average, to see the parameters of each step
        fit(tmp_path / str(num_steps), num_steps=num_steps, evaluate=evaluate)
    averaged, first, second = seen
    # Weights of the newest: 1 - 1/10 at the first step, 1 - 2/11 at the second.
    begin = np.asarray(init(jax.random.split(jax.random.key(0))[0], None)["w"])
    expected = begin * 0.1 + first * 0.9
    expected = expected * (2 / 11) + second * (9 / 11)
    np.testing.assert_allclose(averaged, expected, rtol=1e-5)
    np.testing.assert_array_equal(result.params["w"], averaged)


def test_it_learns(tmp_path):
    result = fit(tmp_path, num_steps=200, loss=loss_without_dropout)
    np.testing.assert_allclose(result.params["w"], [1.0, -2.0, 0.5], atol=0.05)
    assert result.step == 200 and result.metrics["train/loss"] < 0.01


def test_batches_gathered_on_the_host_train_alike(tmp_path):
    def gather(numbers):
        return {name: array[numbers] for name, array in DATA.items()}

    def loss(params, data, batch, step, rng):
        assert data == ()  # nothing lies on the device
        return loss_fn(params, batch, slice(None), step, rng)

    on_devices = fit(tmp_path / "devices", accumulation=2)
    on_host = fit(tmp_path / "host", accumulation=2, loss=loss, data=(), gather=gather)
    np.testing.assert_array_equal(on_host.params["w"], on_devices.params["w"])
    assert without_time(on_host.metrics) == without_time(on_devices.metrics)


def test_the_last_step_is_kept_where_nothing_selects(tmp_path):
    assert fit(tmp_path, [3.0, 9.0, 1.0, 2.0]).step == 40
    rates = {x["step"]: x["train/learning_rate"] for x in lines(tmp_path) if "train/loss" in x}
    assert list(rates) == [4, 8, 10, 14, 18, 20, 24, 28, 30, 34, 38, 40]
    # Of the update that led to the step, counted from 0: a ramp over 5, then half a cosine over 35.
    assert rates[4] == pytest.approx(0.05 * 3 / 5)
    assert rates[30] == pytest.approx(0.05 * (1 + np.cos(np.pi * (29 - 5) / 35)) / 2)


def test_the_best_evaluation_is_kept(tmp_path):
    seen = []

    def evaluate(params):
        seen.append(np.asarray(params["w"]))
        return {"score": [1.0, 8.0, 3.0, 4.0][len(seen) - 1]}

    result = fit(tmp_path, select="score", evaluate=evaluate)
    assert result.step == 20
    np.testing.assert_array_equal(result.params["w"], seen[1])


def test_of_equal_evaluations_the_last_is_kept_but_patience_is_not_renewed(tmp_path):
    result = fit(tmp_path, [5.0, 5.0, 5.0, 9.0], select="score", patience=2)
    assert result.step == 30  # ended there: the second and third were no better than the first


def test_patience_counts_evaluations_without_a_better_one(tmp_path):
    scores = [1.0, 0.5, 2.0, 1.0, 1.5, 99.0]
    result = fit(tmp_path, scores, select="score", patience=2, num_steps=60)
    assert result.step == 30
    assert lines(tmp_path)[-1]["step"] == 50


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path, ema_decay):
    settings = {"select": "score", "patience": 3, "ema_decay": ema_decay}
    whole = fit(tmp_path / "whole", **settings)
    score = next(line["score"] for line in lines(tmp_path / "whole") if "score" in line)
    with pytest.raises(KeyboardInterrupt):  # at step 20, after the checkpoint of step 10
        fit(tmp_path / "again", [score, None], **settings)
    resumed = fit(tmp_path / "again", **settings)
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    assert resumed.step == whole.step
    assert without_time(resumed.metrics) == without_time(whole.metrics)
    assert lines(tmp_path / "again") == lines(tmp_path / "whole")


def test_a_run_goes_on_with_other_devices(tmp_path):
    """From 4 devices to 2 that share an array, to 1: the samples stay, and so do the numbers."""

    def wide_init(rng, data):
        return {"codebooks": 0.1 * jax.random.normal(rng, (1, 2, 3))}  # of which `model` has a rule

    def loss(params, *arguments):
        return loss_fn({"w": params["codebooks"].sum(axis=(0, 1))}, *arguments)

    def run(name, mesh, num_evaluations=100):
        left = iter(range(num_evaluations))

        def evaluate(params):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return {"score": 0.0}

        data = sharding.replicate(mesh, DATA)
        changes = {"mesh": mesh, "data": data, "init": wide_init, "evaluate": evaluate}
        return fit(tmp_path / name, loss=loss, num_steps=100, **changes)

    whole = run("whole", sharding.make_mesh())
    for mesh in (sharding.make_mesh(), sharding.make_mesh(1, 2, devices=jax.devices()[:2])):
        with pytest.raises(KeyboardInterrupt):
            run("moved", mesh, 3)
    moved = run("moved", sharding.one_device())
    assert lines(tmp_path / "moved")[-1]["step"] == 100
    assert moved.params["codebooks"].sharding.device_set == {jax.devices()[0]}
    np.testing.assert_allclose(moved.params["codebooks"], whole.params["codebooks"], rtol=1e-5)


def stop_with_damage(workdir, scores, damaged_step):
    """Stops a run where the scores end, and damages one of its checkpoints."""
    with pytest.raises(KeyboardInterrupt):
        fit(workdir, [*scores, None], select="score")
    (workdir / "checkpoints" / str(damaged_step) / "progress" / "metadata").write_text("{")


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(tmp_path, caplog):
    scores = [5.0, 6.0, 7.0, 8.0]
    whole = fit(tmp_path / "whole", scores, select="score")
    stop_with_damage(tmp_path / "again", scores[:2], damaged_step=20)
    resumed = fit(tmp_path / "again", scores[1:], select="score")
    assert "checkpoints/20/progress/metadata is damaged: moved this" in caplog.text
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    assert lines(tmp_path / "again") == lines(tmp_path / "whole")


def test_the_best_is_still_there_for_the_checkpoint_before_a_better_one(tmp_path):
    scores = [5.0, 1.0, 9.0, 2.0]
    whole = fit(tmp_path / "whole", scores, select="score")
    stop_with_damage(tmp_path / "again", scores[:3], damaged_step=30)
    resumed = fit(tmp_path / "again", scores[2:], select="score")
    assert resumed.step == whole.step == 30
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    assert lines(tmp_path / "again") == lines(tmp_path / "whole")


def test_without_the_best_checkpoint_nothing_can_be_selected(tmp_path):
    stop_with_damage(tmp_path, [5.0, 1.0], damaged_step=10)
    with pytest.raises(UserError, match=r"checkpoints/10 is missing or damaged.*start again in"):
        fit(tmp_path, select="score")


def test_patience_used_up_is_remembered(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, [5.0, 1.0, None], select="score", patience=2)
    result = fit(tmp_path, [1.0, 99.0], select="score", patience=2)
    assert result.step == 10 and lines(tmp_path)[-1]["step"] == 30


def test_a_traced_run_ends_like_one_that_was_not(tmp_path, caplog):
    caplog.set_level("INFO", logger="genrec_jax")
    whole = fit(tmp_path / "whole", num_steps=20)
    # Of dispatches that end at 4, 8, 10, 14, 18 and 20; the first of a length compiles.
    profile = profiling.Interval(range(9, 15), tmp_path / "traces")
    traced = fit(tmp_path / "traced", num_steps=20, profile=profile)
    np.testing.assert_array_equal(traced.params["w"], whole.params["w"])
    assert without_time(traced.metrics) == without_time(whole.metrics)
    assert lines(tmp_path / "traced") == lines(tmp_path / "whole")
    folders = sorted(path.name for path in profile.directory.iterdir())
    assert folders == ["steps_10_to_13", "steps_14_to_17", "steps_8_to_9"]
    for name in folders:
        assert "| update |" in (profile.directory / name / "scopes.md").read_text()
        assert len(list((profile.directory / name).rglob("perfetto_trace.json.gz"))) == 1
    assert "traced steps 10 to 13 (" in caplog.text
    # A run that is taken up behind the steps traces nothing.
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "again", [1.0, 1.0, None])
    fit(tmp_path / "again", profile=profile._replace(directory=tmp_path / "no"))
    assert not (tmp_path / "no").exists()


def test_other_data_are_refused(tmp_path):
    fit(tmp_path, num_steps=10)
    with pytest.raises(UserError, match="was trained on other data"):
        fit(tmp_path, data_fingerprint="there")


def spoilt(steps, how="loss"):
    """Returns `loss_fn`, whose value or gradient is not finite at the numbered steps."""

    def loss(params, data, indices, step, rng):
        value, more = loss_fn(params, data, indices, step, rng)
        is_spoilt = jnp.isin(step + 1, jnp.array(steps))  # updates are counted from 1
        if how == "loss":
            return value + jnp.where(is_spoilt, jnp.inf, 0), more
        # The root of 0 is 0, and its slope has no bound.
        root = jnp.sqrt(jnp.where(is_spoilt, 0 * params["w"][0], 1.0))
        return value + 0 * root, more

    return loss


@pytest.mark.parametrize("how, step", [("loss", 12), ("gradient", 20)])  # amid and last
def test_a_loss_that_is_not_finite_ends_the_run_and_the_last_checkpoint_is_kept(
    tmp_path, how, step
):
    message = rf"test: the loss or its gradient is not finite at step {step}: lower --config.opt"
    with pytest.raises(UserError, match=message):
        fit(tmp_path, loss=spoilt([step], how), select="score")
    assert checkpoint.saved_steps(tmp_path) == [10]
    resumed = fit(tmp_path, select="score")
    np.testing.assert_array_equal(
        resumed.params["w"], fit(tmp_path / "whole", select="score").params["w"]
    )


def test_updates_that_are_not_finite_are_left_out_on_demand(tmp_path, caplog):
    history = []

    def evaluate(params):
        history.append(np.asarray(params["w"]))
        return {"score": 0.0}

    changes = {"eval_every": 1, "skip_nonfinite": 2, "evaluate": evaluate}
    loss = spoilt([4, 7, 8], "gradient")
    result = fit(tmp_path, loss=loss, num_steps=12, ema_decay=0.5, **changes)
    moved = [bool((a != b).any()) for a, b in itertools.pairwise(history)]
    assert moved == [step not in (4, 7, 8) for step in range(2, 13)]
    shares = {x["step"]: x["train/skipped"] for x in lines(tmp_path) if "train/skipped" in x}
    assert [step for step, share in shares.items() if share] == [4, 7, 8]
    assert np.isfinite(result.params["w"]).all()
    assert (
        caplog.messages[0]
        == "test: left out 1 of 1 updates, which are not finite, the first at step 4"
    )


def test_metrics_are_means_of_what_was_not_left_out(tmp_path):
    fit(tmp_path / "whole", num_steps=4)
    fit(tmp_path / "skipped", num_steps=4, loss=spoilt([2]), skip_nonfinite=1)
    whole, skipped = (lines(tmp_path / name)[0] for name in ("whole", "skipped"))
    assert skipped["train/skipped"] == 0.25
    assert 0 < skipped["train/loss"] < 2 * whole["train/loss"]


def test_too_many_in_a_row_end_the_run_wherever_it_was_interrupted(tmp_path):
    settings = {"loss": spoilt([3, 9, 10, 11]), "skip_nonfinite": 2}
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, [1.0, None], **settings | {"loss": spoilt([3, 9, 10])})
    with pytest.raises(UserError, match=r"is not finite at the 3 steps up to 11: lower"):
        fit(tmp_path, [1.0], **settings)
    with pytest.raises(UserError, match=r"is not finite at the 3 steps up to 11: lower"):
        fit(tmp_path / "whole", [1.0, None], **settings)


def preempting(at):
    """Returns a schedule that sends SIGTERM to this process when one of these steps is logged."""

    def schedule(step):
        if step + 1 in at:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.0

    return schedule


@pytest.mark.parametrize("at, saved", [(4, 8), (8, 10), (40, 40)])
def test_a_preempted_run_saves_after_the_dispatch_in_flight_and_ends_like_any_other(
    tmp_path, listening, at, saved
):
    settings = {"select": "score", "patience": 3, "ema_decay": 0.9}
    whole = fit(tmp_path / "whole", **settings | {"schedule": lambda step: 0.0})
    message = f"^test is saved at step {saved}: the same command goes on from it$"
    with pytest.raises(Preempted, match=message):
        fit(tmp_path / "again", **settings | {"schedule": preempting([at])})
    assert checkpoint.saved_steps(tmp_path / "again")[-1] == saved
    resumed = fit(tmp_path / "again", **settings | {"schedule": lambda step: 0.0})
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    assert resumed.step == whole.step
    assert without_time(resumed.metrics) == without_time(whole.metrics)
    assert lines(tmp_path / "again") == lines(tmp_path / "whole")


def test_a_run_that_is_preempted_again_and_again_gets_to_its_end(tmp_path, listening):
    schedule = preempting(range(1000))
    saved = []
    for _ in range(20):
        try:
            result = fit(tmp_path / "again", select="score", schedule=schedule)
            break
        except Preempted:
            saved.append(checkpoint.saved_steps(tmp_path / "again")[-1])
    assert saved == [8, 10, 18, 20, 28, 30, 38, 40]
    whole = fit(tmp_path / "whole", select="score", schedule=lambda step: 0.0)
    np.testing.assert_array_equal(result.params["w"], whole.params["w"])
    assert lines(tmp_path / "again") == lines(tmp_path / "whole")
    assert len(checkpoint.saved_steps(tmp_path / "again")) <= 4


def test_saves_by_the_clock_change_nothing_but_where_a_run_goes_on(tmp_path, monkeypatch):
    now = [0.0]

    def monotonic():
        now[0] += 1e-3
        return now[0]

    def schedule(step):  # a minute a step; the host is told of a dispatch during the next one
        now[0] = max(now[0], 60.0 * (step + 1))
        return 0.0

    # Whatever reads the wall clock, which may jump, would fail here.
    monkeypatch.setattr(train, "time", types.SimpleNamespace(monotonic=monotonic))
    whole = fit(tmp_path / "whole", schedule=schedule)
    assert checkpoint.saved_steps(tmp_path / "whole") == [30, 40]
    now[0] = 0.0
    policy = checkpoint.Policy(every_minutes=3.0, keep_last=9, keep_best=1, keep_every_hours=0.0)
    saving = fit(tmp_path / "saving", schedule=schedule, checkpointing=policy)
    assert checkpoint.saved_steps(tmp_path / "saving") == [8, 10, 18, 20, 28, 30, 38, 40]
    np.testing.assert_array_equal(saving.params["w"], whole.params["w"])
    assert lines(tmp_path / "saving") == lines(tmp_path / "whole")
    for step in (40, 38, 30):  # as if it had been killed before
        (tmp_path / "saving" / "checkpoints" / str(step)).rename(tmp_path / str(step))
    resumed = fit(tmp_path / "saving", schedule=lambda step: 0.0, checkpointing=policy)
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    assert lines(tmp_path / "saving") == lines(tmp_path / "whole")


def test_a_folder_that_has_become_read_only_ends_the_run_and_keeps_what_it_has(read_only):
    folder, locked = read_only
    with pytest.raises(KeyboardInterrupt):
        fit(folder, [1.0, None])
    with locked(), pytest.raises(PermissionError) as error:
        fit(folder)
    assert "Permission denied: choose another path" in errors.refusal(error.value)
    fit(folder)
    assert checkpoint.saved_steps(folder) == [30, 40]
