"""Speed of the input pipeline: the numbers of samples for training, and histories packed in rows.

    python -m benchmarks.input_pipeline [--smoke] [--output=FILE.json]

This is work of the host. Its floor is what NumPy takes to shuffle as many numbers and to copy them
once. Beside it stands what training on this device asks for (`consumed`): of superbatches a step of
the tokenizer of configs/rqvae.py:beauty, the fastest consumer, and of `packed` ones, in which short
histories share rows, a step of configs/retrieval.py:beauty. Histories are those of
benchmarks/retrieval_training.py.

S samples   B batch
"""

import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import common, quantization, retrieval_training, tokenizer_training
from configs import retrieval as retrieval_config
from genrec_jax import roofline
from genrec_jax.data import batches, packing
from genrec_jax.tasks import retrieval

_STEPS = 100  # a superbatch
# Of a repeat, or an epoch where that is more; packed ones, which take longer.
_MIN_INDICES, _MIN_PACKED = 2**21, 2**18
_ROW_LENGTH = 64  # of packed rows, as in configs/hybrid.py
_CONSUMER_ITEMS = 12_101


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Measures all cases, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        common.check_writable(output)
    columns = {
        "ms": lambda case: f"{case['median_seconds'] * 1e3:,.3g}",
        "spread": lambda case: f"{case['spread']:.0%}",
        "rate": lambda case: f"{common.short(case['rate'])} {case['unit']}",
        "floor": lambda case: f"{case['share_of_floor']:.1%}",
        "consumed": _consumed_cell,
    }
    common.write_report("input_pipeline", smoke, arguments, _cases(smoke), columns, output)


def _consumed_cell(case: dict[str, Any]) -> str:
    consumed = case["facts"].get("consumed")  # of packing, which is done once, nothing
    return common.short(consumed) if consumed else ""


def _cases(smoke: bool) -> Iterator[dict[str, Any]]:
    """Yields the cases; each is measured before the next one is made."""
    repeats = 3 if smoke else 5
    shapes = [(12_101, 640), (131_413, 256), (10**7, 256), (10**7, 65_536)]
    users = (22_363, 10**6)
    if smoke:
        shapes, users = [(1_000, 64)], (300,)
    consumed = functools.cache(functools.partial(training_rate, smoke=smoke))
    least = 1 if smoke else _MIN_INDICES
    for num_samples, batch_size in shapes:
        name = f"{common.short(num_samples)}, batch {common.short(batch_size)}"
        yield _superbatches(
            name, num_samples, batch_size, None, least, repeats, consumed(batch_size)
        )
    yield _packed_superbatches(smoke, repeats)
    for number in users:
        yield _packing(number, repeats)


def _packed_superbatches(smoke: bool, repeats: int) -> dict[str, Any]:
    """Returns the case of superbatches whose samples share rows."""
    config = retrieval_config.get_config("beauty,smoke" if smoke else "beauty")
    config.steps_per_call = 2 if smoke else 10  # enough to know the speed of a step
    data = retrieval_training.synthetic_data(*((300, 200) if smoke else (22_363, 12_101)))
    how = retrieval.packing_of(data["samples"], config.max_history, num_shards=1)
    num_samples, batch_size = len(how.lengths), config.batch_size
    consumed = _consumed(retrieval_training.step_case(config, data, packed=True), batch_size)
    name = f"{common.short(num_samples)}, batch {common.short(batch_size)}, packed"
    least = 1 if smoke else _MIN_PACKED
    return _superbatches(name, num_samples, batch_size, how, least, repeats, consumed)


def _superbatches(
    name: str,
    num_samples: int,
    batch_size: int,
    how: batches.Packing | None,
    least: int,
    repeats: int,
    consumed: float,
) -> dict[str, Any]:
    """Returns the case of superbatches from Grain, epoch after epoch.

    Args:
        name: of the case.
        num_samples, batch_size: S and B.
        how: samples share rows; None if they do not.
        least: number of samples of a repeat.
        repeats: how many there are.
        consumed: samples a second that training takes.
    """
    calls = math.ceil(max(num_samples, least) / (_STEPS * batch_size))  # superbatches of a repeat
    num_steps = _STEPS * calls * (repeats + 1)
    iterator = batches.superbatches(
        num_samples=num_samples,
        batch_size=batch_size,
        boundaries=batches.boundaries(num_steps, _STEPS, (num_steps,)),
        seed=0,
        process_index=0,
        process_count=1,
        packing=how,
    )

    def take():
        for superbatch in itertools.islice(iterator, calls):
            num_taken = (superbatch != batches.NOBODY).sum() if how else superbatch.size
            assert num_taken == _STEPS * batch_size

    take()  # the first one starts Grain's thread
    seconds = [_seconds(take) for _ in range(repeats)]
    count = calls * _STEPS * batch_size
    facts = {"num_samples": num_samples, "batch_size": batch_size, "consumed": consumed}
    case = common.result(name, seconds, count, "indices", facts)
    floor = shuffle_seconds(num_samples, repeats) * count / num_samples
    return case | {"share_of_floor": floor / case["median_seconds"]}


def _packing(num_users: int, repeats: int) -> dict[str, Any]:
    """Returns the case of packing all users' histories into rows."""
    ends = np.cumsum(retrieval_training.draw_lengths(np.random.default_rng(0), num_users))
    starts = np.append(0, ends[:-1])
    rows = packing.pack(starts, ends, _ROW_LENGTH)
    seconds = [_seconds(lambda: packing.pack(starts, ends, _ROW_LENGTH)) for _ in range(repeats)]
    num_items = int(ends[-1])
    filled = float((rows.segments != packing.NOWHERE).mean())
    facts = {"num_users": num_users, "num_rows": len(rows), "filled": filled}
    case = common.result(
        f"pack {common.short(num_users)} users", seconds, num_items, "items", facts
    )
    return case | {"share_of_floor": shuffle_seconds(num_items, repeats) / case["median_seconds"]}


def shuffle_seconds(number: int, repeats: int) -> float:
    """Returns what NumPy takes to shuffle so many numbers and to copy them as int32."""
    rng = np.random.default_rng(0)
    return statistics.median(
        _seconds(lambda: rng.permutation(number).astype(np.int32)) for _ in range(repeats)
    )


def training_rate(batch_size: int, smoke: bool) -> float:
    """Returns how many samples a second the tokenizer's training takes in such batches."""
    config = quantization.tokenizer_config(smoke)
    config.batch_size = batch_size
    config.steps_per_call = max(1, min(config.steps_per_call, 2**14 // batch_size))
    width = config.model.code_dim if smoke else quantization.SENTENCE_DIM
    case = tokenizer_training.step_case(
        config, tokenizer_training.random_embeddings(_CONSUMER_ITEMS, width)
    )
    return _consumed(case, batch_size)


def _consumed(case: common.Case, batch_size: int) -> float:
    """Returns how many samples a second the steps of a case take."""
    seconds = roofline.measure(case.call, repeats=3, min_seconds=0.0)
    return case.count * batch_size / statistics.median(seconds)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    common.start(run)
