"""Speed of the input pipeline: the numbers of samples for training, and histories packed in rows.

    python -m benchmarks.input_pipeline [--smoke] [--output=FILE.json]

This is work of the host. Its floor is what NumPy takes to shuffle as many numbers and to copy them
once. Beside it stands what the fastest consumer asks for, the tokenizer's training step of
configs/rqvae.py:beauty on this device (`consumed`). Histories are those of
benchmarks/retrieval_training.py.

S samples   B batch
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import common, quantization, retrieval_training, tokenizer_training
from genrec_jax import roofline
from genrec_jax.data import batches, packing

_STEPS = 100  # a superbatch
_MIN_INDICES = 2**21  # a repeat, or an epoch where that is more
_ROW_LENGTH = 64  # of packed rows, as in configs/hybrid.py
_CONSUMER_ITEMS = 12_101


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Measures all cases, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        common.check_writable(output)
    repeats = 3 if smoke else 5
    shapes = [(12_101, 640), (131_413, 256), (10**7, 256), (10**7, 65_536)]
    users = (22_363, 10**6)
    if smoke:
        shapes, users = [(1_000, 64)], (300,)
    consumed = {size: training_rate(size, smoke) for size in dict.fromkeys(b for _, b in shapes)}
    cases = [_indices(*shape, repeats, smoke, consumed[shape[1]]) for shape in shapes]
    cases += [_packing(number, repeats) for number in users]
    columns = {
        "ms": lambda case: f"{case['median_seconds'] * 1e3:,.3g}",
        "spread": lambda case: f"{case['spread']:.0%}",
        "rate": lambda case: f"{common.short(case['rate'])} {case['unit']}",
        "floor": lambda case: f"{case['share_of_floor']:.1%}",
        "consumed": _consumed_cell,
    }
    common.write_report("input_pipeline", smoke, arguments, cases, columns, output)


def _consumed_cell(case: dict[str, Any]) -> str:
    consumed = case["facts"].get("consumed")  # of packing, which is done once, nothing
    return common.short(consumed) if consumed else ""


def _indices(
    num_samples: int, batch_size: int, repeats: int, smoke: bool, consumed: float
) -> dict[str, Any]:
    """Returns the case of superbatches from Grain, epoch after epoch."""
    indices = num_samples if smoke else max(num_samples, _MIN_INDICES)
    calls = math.ceil(indices / (_STEPS * batch_size))  # superbatches of a repeat
    num_steps = _STEPS * calls * (repeats + 1)
    iterator = batches.superbatches(
        num_samples=num_samples,
        batch_size=batch_size,
        boundaries=batches.boundaries(num_steps, _STEPS, (num_steps,)),
        seed=0,
        process_index=0,
        process_count=1,
    )

    def take():
        for superbatch in itertools.islice(iterator, calls):
            assert superbatch.shape == (_STEPS, batch_size)

    take()  # the first one starts Grain's thread
    seconds = [_seconds(take) for _ in range(repeats)]
    count = calls * _STEPS * batch_size
    facts = {"num_samples": num_samples, "batch_size": batch_size, "consumed": consumed}
    name = f"{common.short(num_samples)}, batch {common.short(batch_size)}"
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
    seconds = roofline.measure(case.call, repeats=3, min_seconds=0.0)
    return case.count * batch_size / statistics.median(seconds)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    common.start(run)
