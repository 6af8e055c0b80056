"""What a device can do, measured: rates of large products and of a large copy, and the floor.

At these rates work would take the larger of its arithmetic and its traffic, which is its floor; its
share of the floor is floor / time. It is no bound where work is so small that a cache holds it.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# How products are computed: the type of the inputs and JAX's precision. "float32" is what XLA
# makes of float32 by default (TF32 on NVIDIA GPUs, bfloat16 on TPUs), "float32_highest" all of it.
PRECISIONS = {
    "bfloat16": (jnp.bfloat16, jax.lax.Precision.DEFAULT),
    "float32": (jnp.float32, jax.lax.Precision.DEFAULT),
    "float32_highest": (jnp.float32, jax.lax.Precision.HIGHEST),
}
_MAX_CALLS = 20  # in a repeat


def measure(call: Callable[[], Any], repeats: int, min_seconds: float) -> list[float]:
    """Returns the seconds a call of each repeat.

    Two calls that are not counted compile and warm up. Each repeat then waits once, after as many
    calls as fill `min_seconds`, so that starting them is hidden as it is in use.
    """
    jax.block_until_ready(call())
    calls = min(math.ceil(min_seconds / _seconds(call, 1)) or 1, _MAX_CALLS)
    return [_seconds(call, calls) / calls for _ in range(repeats)]


def _seconds(call: Callable[[], Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        out = call()
    jax.block_until_ready(out)
    return time.perf_counter() - started


def ceilings(small: bool, repeats: int, min_seconds: float) -> dict[str, float]:
    """Returns operations a second of large products by precision, and bytes a second of a copy.

    A copy's bytes are those read and those written.
    """
    size, copied = (512, 2**22) if small else (8192, 2**28)
    left_rng, right_rng, rng = jax.random.split(jax.random.key(0), 3)
    found = {}
    for name, (dtype, precision) in PRECISIONS.items():
        left = jax.random.normal(left_rng, (size, size), dtype)
        right = jax.random.normal(right_rng, (size, size), dtype)
        product = jax.jit(lambda a, b, precision=precision: jnp.matmul(a, b, precision=precision))
        seconds = measure(lambda: product(left, right), repeats, min_seconds)  # noqa: B023
        found[name] = 2 * size**3 / statistics.median(seconds)
    values = jax.random.normal(rng, (copied,))
    negative = jax.jit(jnp.negative)  # a true copy could be left out
    seconds = measure(lambda: negative(values), repeats, min_seconds)
    return found | {"copy": 2 * values.nbytes / statistics.median(seconds)}


def add_flops(*parts: dict[str, int]) -> dict[str, int]:
    """Returns the sums by precision."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def floor_seconds(flops: dict[str, int], num_bytes: int, ceilings: dict[str, float]) -> float:
    """Returns the larger of the time of the arithmetic and the time of the traffic."""
    arithmetic = sum(count / ceilings[precision] for precision, count in flops.items())
    return max(arithmetic, num_bytes / ceilings["copy"])
