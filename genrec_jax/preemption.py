"""Preemption: SIGTERM, by which schedulers announce that they take a machine back.

A training loop saves first (`deferred`). Anything else can end at once, as whatever was finished is
on disk and whole.
"""

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from genrec_jax.errors import Preempted

_LATER = 0.05  # seconds


def listen() -> None:
    """Lets SIGTERM raise `Preempted` from now on.

    Where Python drops what is raised, as in callbacks of its garbage collector, the signal comes
    again a little later.
    """
    signal.signal(signal.SIGTERM, _raise)
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
    sys.unraisablehook = functools.partial(_come_again, sys.unraisablehook)


def _come_again(otherwise: Callable, unraisable) -> None:
    if isinstance(unraisable.exc_value, Preempted):
        signal.setitimer(signal.ITIMER_REAL, _LATER)
    else:
        otherwise(unraisable)


def _raise(*_) -> None:
    raise Preempted("the same command goes on from here")


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGTERM has come, which does nothing else in the block.

    If it came and the block ends without an error, it has its usual effect then.
    """
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        yield lambda: bool(received)
    finally:
        # None: not Python's, as that of jax.distributed, which only a handler here replaces.
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
    if received:
        signal.raise_signal(signal.SIGTERM)


def agreement(mesh: Mesh, wish: Callable[[], int]) -> Callable[[], int]:
    """Returns a function that returns the largest of all processes' wishes.

    All processes must call this at the same places of their programs. The devices compare the
    wishes behind what they have to do already, and before what they are given next: who has waited
    for the former does not wait for the result.
    """
    if jax.process_count() == 1:
        return wish
    each = NamedSharding(mesh, P(mesh.axis_names))
    wishes = np.full(jax.local_device_count(), wish(), np.int32)
    largest = _largest(jax.make_array_from_process_local_data(each, wishes))
    return lambda: int(largest)


_largest = jax.jit(jnp.max)
