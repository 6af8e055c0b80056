"""The one training loop.

A training step sees numbers of samples, and what they stand for lies on the device already; or, of
more data than it holds, batches that are gathered on the host. The loop dispatches many steps at
once, evaluates and saves at fixed steps, saves between them by the clock
and before it is preempted, and can be killed anywhere: run again, it goes on from the newest
checkpoint and ends with the same numbers.
"""

import contextlib
import functools
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from genrec_jax import (
    checkpoint,
    distributed,
    optimizer,
    preemption,
    profiling,
    sharding,
    train_step,
)
from genrec_jax.data import batches
from genrec_jax.errors import Preempted, UserError
from genrec_jax.loss_watch import LossWatch
from genrec_jax.telemetry import MetricWriter, ProgressLine
from genrec_jax.train_step import GatherFn, LossFn, Rules

# The smallest values of the settings that every trainable stage has.
MINIMA = {
    "num_steps": 1,
    "steps_per_call": 1,
    "eval_every": 1,
    "accumulation": 1,
    "skip_nonfinite": 0,
    "profile.first_step": 0,
    "profile.num_steps": 0,
}
MINIMA |= {f"checkpoint.{name}": minimum for name, minimum in checkpoint.MINIMA.items()}
MINIMA |= {f"optimizer.{name}": minimum for name, minimum in optimizer.MINIMA.items()}

_SAVE, _STOP = 1, 2  # wishes, of which the largest of all processes counts


class Result(NamedTuple):
    """What `fit` returns."""

    params: Any  # of the best evaluation, or of the last step where nothing selects; averaged
    step: int  # the step they are from
    metrics: dict[str, float]  # of the last superbatch under `train/`, and `time/`


def fit(
    *,
    name: str,
    workdir: str | pathlib.Path,
    mesh: jax.sharding.Mesh,
    init: Callable[[jax.Array, Any], Any],
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    data: Any,
    data_fingerprint: str,
    num_samples: int,
    batch_size: int,
    packing: batches.Packing | None,
    gather: GatherFn | None,
    accumulation: int,
    ema_decay: float,
    rules: Rules | None,
    num_steps: int,
    steps_per_call: int,
    eval_every: int,
    skip_nonfinite: int,
    checkpointing: checkpoint.Policy,
    evaluate: Callable[[Any], dict[str, float]],
    headline: tuple[str, ...],
    select: str | None,
    patience: int,
    seed: int,
    profile: profiling.Interval,
    trackers: str,
) -> Result:
    """Trains, and returns the parameters that validation selects.

    Args:
        name: of the stage, for the line of progress.
        workdir: where checkpoints and metrics go, and where an interrupted run is taken up.
        mesh: the devices.
        init: `init(rng, data)` makes the parameters; called under jit.
        loss_fn: the loss of a batch: of numbers of samples, or of what `gather` makes of them.
        tx, schedule: the optimiser, and its learning rate for the log.
        data: what `loss_fn` reads, on the devices.
        data_fingerprint: a run is not taken up with other data.
        num_samples: how many samples there are.
        batch_size: samples an update, over all devices.
        packing: how the samples of a batch share rows, if they do.
        gather: from numbers of samples to a batch, on the host, ahead of the device; None if
            `loss_fn` reads the numbers.
        accumulation: parts of a batch that are computed one after the other.
        ema_decay: if not 0, evaluations see, and the result is, an exponential moving average of
            the parameters with this decay a step.
        rules: what else changes the state, or None.
        num_steps: updates.
        steps_per_call: updates a dispatch.
        eval_every: updates between evaluations; a checkpoint follows each of them.
        skip_nonfinite: so many updates in a row are left out if their loss or gradient is not
            finite; one more ends the run.
        checkpointing: when else to save, and which checkpoints to keep.
        evaluate: metrics of parameters.
        headline: which of them the line of progress shows.
        select: the metric, higher for better, whose best evaluation is kept; None to keep the
            last.
        patience: evaluations without a better one after which training ends; 0 for never.
        seed: of the parameters, the samples' order and dropout.
        profile: which steps to trace, each with the whole dispatch that it is in.
        trackers: where the metrics go beside metrics.jsonl: names, with commas between.

    Raises:
        UserError: if the loss is not finite, or the workdir's checkpoint is of other data, or
            the best one is damaged.
        Preempted: after SIGTERM, once a checkpoint is written.
    """
    distributed.check_same("other data", data_fingerprint, "let all share --config.cache_dir")
    train_superbatch = train_step.make_train_superbatch(
        loss_fn,
        tx,
        mesh,
        accumulation=accumulation,
        ema_decay=ema_decay,
        rules=rules,
        skip_nonfinite=skip_nonfinite > 0,
    )
    replicated = sharding.replicated(mesh)
    init_rng, rng = jax.jit(
        lambda: tuple(jax.random.split(jax.random.key(seed))), out_shardings=replicated
    )()
    renew_every = rules.renew_every if rules else 0
    steps = batches.boundaries(num_steps, steps_per_call, (eval_every, renew_every))
    process_index, process_count = sharding.share_of_rows(mesh)
    iterator = batches.superbatches(
        num_samples=num_samples,
        batch_size=batch_size,
        boundaries=steps,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
        packing=packing,
        gather=gather,
    )

    @functools.partial(jax.jit, donate_argnums=0)
    def renew(state, data, rng):
        _, rng = jax.random.split(jax.random.fold_in(rng, state["step"]))  # not that of the step
        params, stats = rules.renew(state["params"], state.get("stats"), data, rng)
        state |= {"params": params} | ({"stats": stats} if "stats" in state else {})
        return sharding.constrain(mesh, state)

    with contextlib.ExitStack() as stack:
        is_preempted = stack.enter_context(preemption.deferred())
        # A run starts (1) from its newest checkpoint or (2) from fresh parameters.
        checkpoints = checkpoint.Checkpoints(workdir, select, checkpointing)
        stack.enter_context(checkpoints)
        start = mesh, init, tx, rules, ema_decay, init_rng, data
        abstract_state = train_step.abstract_state(*start)
        step = checkpoints.latest_step()
        if step is not None:
            state, progress = checkpoints.restore(step, abstract_state)
            if progress["data_fingerprint"] != data_fingerprint:
                raise UserError(f"{workdir} was trained on other data: choose another --workdir")
            if progress["best_step"] is not None:
                checkpoints.check_best(progress["best_step"])
            iterator.set_state(progress["data"])
        else:
            step = 0
            state = train_step.new_state(*start)
            progress = _first_progress(data_fingerprint)

        writer = stack.enter_context(MetricWriter(workdir, step, trackers))
        line = stack.enter_context(ProgressLine(name, step, num_steps))
        clock = _Clock(step)
        watch = LossWatch(name, skip_nonfinite)
        saved_at = time.monotonic()  # which no change of the wall clock moves

        def wish() -> int:
            seconds = 60 * checkpointing.every_minutes
            is_due = 0 < seconds <= time.monotonic() - saved_at
            return _STOP if is_preempted() else _SAVE if is_due else 0

        def log(step, metrics):
            """Waits for the metrics of the superbatch that ends at `step`, and reports them."""
            losses = np.asarray(metrics.pop("losses"))
            progress["nonfinite_in_a_row"] = watch.see(
                step - len(losses) + 1, losses, progress["nonfinite_in_a_row"]
            )
            values = {f"train/{key}": float(value) for key, value in metrics.items()}
            seconds, rate = clock.tick(step)
            progress["seconds"] += seconds
            values["train/learning_rate"] = float(schedule(step - 1))
            progress["metrics"] = values
            line.update(step, values["train/loss"], rate)
            writer.write(step, values | {"time/steps_per_second": rate})

        in_flight = None  # the device computes one superbatch while the host logs the one before
        while step < num_steps and not _is_out_of_patience(progress, patience):
            superbatch = next(iterator)
            (length,) = {len(leaf) for leaf in jax.tree.leaves(superbatch)}
            superbatch = sharding.shard_rows(mesh, superbatch, row_axis=1)
            if renew_every and step and step % renew_every == 0:
                state = renew(state, data, rng)
            dispatch = range(step, step + length)
            agreed = preemption.agreement(mesh, wish)
            state, metrics = profiling.call(
                train_superbatch, state, data, superbatch, rng, dispatch=dispatch, profile=profile
            )
            if in_flight:
                log(*in_flight)
            step += length
            in_flight = step, metrics
            is_evaluated = step % eval_every == 0 or step == num_steps
            if not is_evaluated and not agreed():
                continue
            log(*in_flight)
            in_flight = None
            values = None
            if is_evaluated:
                values = evaluate(train_step.averaged(state))
                writer.write(step, values)
                _compare(progress, step, values, select)
                line.say(step, {key: values[key] for key in headline})
            progress["data"] = iterator.get_state()
            checkpoints.save(state, progress, values)
            if agreed() == _STOP:
                raise Preempted(f"{name} is saved at step {step}: the same command goes on from it")
            saved_at = time.monotonic()
            clock.skip()

        if select and progress["best_step"] != step:
            step = progress["best_step"]
            state, _ = checkpoints.restore(step, abstract_state)
    times = {"train_seconds": progress["seconds"], "steps_per_second": clock.median_rate()}
    times = {f"time/{key}": value for key, value in times.items()}
    return Result(train_step.averaged(state), step, progress["metrics"] | times)


class _Clock:
    """Seconds and rates of training alone, without evaluations."""

    def __init__(self, step: int):
        self._step, self._time, self._rates = step, time.monotonic(), []

    def tick(self, step: int) -> tuple[float, float]:
        """Returns the seconds and the steps a second since the tick before."""
        now = time.monotonic()
        seconds = now - self._time
        self._rates.append((step - self._step) / seconds)
        self._step, self._time = step, now
        return seconds, self._rates[-1]

    def skip(self) -> None:
        """Leaves out what has happened since the last tick."""
        self._time = time.monotonic()

    def median_rate(self) -> float:
        """Returns the median steps a second, without the first tick, which has compiled."""
        return statistics.median(self._rates[1:] or self._rates or [0.0])


def _first_progress(data_fingerprint: str) -> dict:
    """Returns what a checkpoint remembers beside the state, as JSON."""
    return {
        "data_fingerprint": data_fingerprint,
        "data": None,  # the state of the pipeline
        "best_step": None,
        "best_value": None,
        "evaluations_without_better": 0,
        "nonfinite_in_a_row": 0,  # updates left out just before
        "metrics": {},  # of the last superbatch
        "seconds": 0.0,  # of training, over all attempts
    }


def _compare(progress: dict, step: int, values: dict[str, float], select: str | None) -> None:
    """Notes in `progress` whether the evaluation at `step` is the best so far.

    Of equal ones the last is kept, but only a better one renews the patience.
    """
    if select is None:
        return
    value, best = values[select], progress["best_value"]
    is_better = best is None or value > best
    progress["evaluations_without_better"] = (
        0 if is_better else progress["evaluations_without_better"] + 1
    )
    if is_better or value == best:
        progress["best_step"], progress["best_value"] = step, value


def _is_out_of_patience(progress: dict, patience: int) -> bool:
    return 0 < patience <= progress["evaluations_without_better"]
