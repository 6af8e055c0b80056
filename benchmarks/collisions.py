"""Time and memory of one semantic ID for each item, for a large catalogue.

    python -m benchmarks.collisions [--smoke] [--output=FILE.json]

This is work of the host, so there are no ceilings. Peak memory is that of the whole process since
its start, the making of the data included.

The items are copies of designs, as near to each other as the last level's codewords let them be,
and have their design's codes. Designs have so many copies as a log-normal weight says; so have the
codes of each level, with the deviation that gives 74% of full perplexity, as on Beauty.

N items   D designs   Q levels   K codebook size   C code width
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common
from genrec_jax import telemetry
from genrec_jax.quantizers import collisions

_LEVELS, _WIDTH = 3, 32
_SHRINKING = 0.25  # a level's codewords are so much shorter than the level's before
_REPEATS = 3


class Case(NamedTuple):
    """A call to measure."""

    name: str
    call: Callable[[], np.ndarray]  # returns IDs
    codes: np.ndarray  # [N, Q]


def cases(smoke: bool) -> Iterator[Case]:
    """Yields the cases; each is measured before the next one is made."""
    num_items = 10_000 if smoke else 10_000_000
    size = 16 if smoke else 256
    rng = np.random.default_rng(0)
    codes, popularity = draw_codes(rng, num_items, size), draw_popularity(rng, num_items)
    yield Case(
        f"extra code {_LEVELS} x {size}",
        lambda: collisions.append_extra_code(codes, popularity, size=0),
        codes,
    )
    size = 32 if smoke else 1024
    codes, popularity = draw_codes(rng, num_items, size), draw_popularity(rng, num_items)
    codebooks = draw_codebooks(rng, size)
    latents = draw_latents(rng, codes, codebooks)
    yield Case(
        f"re-assign {_LEVELS} x {size}",
        lambda: collisions.reassign(codes, popularity, latents, codebooks),
        codes,
    )


def draw_codes(rng: np.random.Generator, num_items: int, size: int) -> np.ndarray:
    """Returns [N, Q] int32 codes of items that are copies of N designs."""
    levels = [
        rng.choice(size, num_items, p=_weights(rng, size, deviation=0.78)) for _ in range(_LEVELS)
    ]
    designs = np.stack(levels, axis=-1).astype(np.int32)
    return designs[rng.choice(num_items, num_items, p=_weights(rng, num_items, deviation=1.0))]


def draw_popularity(rng: np.random.Generator, num_items: int) -> np.ndarray:
    return rng.geometric(0.1, num_items)


def draw_codebooks(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Returns Q arrays [K, C] float32."""
    return [
        rng.standard_normal((size, _WIDTH), np.float32) * np.float32(_SHRINKING**level)
        for level in range(_LEVELS)
    ]


def draw_latents(
    rng: np.random.Generator, codes: np.ndarray, codebooks: list[np.ndarray]
) -> np.ndarray:
    """Returns [N, C] float32: the codewords of codes [N, Q] and a remainder."""
    latents = rng.standard_normal((len(codes), _WIDTH), np.float32)
    latents *= _SHRINKING**_LEVELS
    for block in np.array_split(np.arange(len(codes)), max(len(codes) // 2**18, 1)):
        for level, codebook in enumerate(codebooks):
            latents[block] += codebook[codes[block, level]]
    return latents


def _weights(rng: np.random.Generator, count: int, deviation: float) -> np.ndarray:
    weights = np.exp(deviation * rng.standard_normal(count))
    return weights / weights.sum()


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Measures all cases, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        common.check_writable(output)
    columns = {
        "items": lambda case: common.short(case["count"]),
        "colliding": lambda case: f"{case['facts']['colliding_share']:.0%}",
        "seconds": lambda case: f"{case['median_seconds']:.3g}",
        "rate": lambda case: f"{common.short(case['rate'])} {case['unit']}",
        "peak GB": lambda case: f"{case['peak_gigabytes']:.3g}",
    }
    results = (_result(case) for case in cases(smoke))
    common.write_report("collisions", smoke, arguments, results, columns, output)


def _result(case: Case) -> dict[str, Any]:
    """Returns the case, measured, as the JSON has it."""
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        ids = case.call()
        seconds.append(time.perf_counter() - started)
    peak_gigabytes = telemetry.peak_host_bytes() / 1e9
    counts, prefix_counts = _counts(case.codes), _counts(case.codes[:, :-1])
    facts = {
        "colliding_share": 1 - len(counts) / len(ids),  # of items whose codes another one keeps
        "largest_group": int(counts.max()),
        "largest_prefix": int(prefix_counts.max()),
        "unique_share": len(_counts(ids)) / len(ids),
    }
    result = common.result(case.name, seconds, len(ids), "items", facts)
    return result | {"peak_gigabytes": peak_gigabytes}


def _counts(ids: np.ndarray) -> np.ndarray:
    """Returns how many rows of ids [N, Q] are alike, for each that there is."""
    keys = np.ravel_multi_index(tuple(ids.T), tuple(ids.max(axis=0) + 1))
    return np.unique(keys, return_counts=True)[1]


if __name__ == "__main__":
    common.start(run)
