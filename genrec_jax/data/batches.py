"""Which samples each training step uses: a Grain pipeline of their numbers.

The stream of samples is epoch after epoch, each a permutation of its own; step t takes the next
`batch_size` of them, across the border of two epochs if need be, so every sample of an epoch is
used exactly once and no batch is short. An element of the pipeline is a superbatch, the batches
of all steps of one dispatch. Each process gets its columns of every batch, so the batches do not
depend on the number of processes.

Packed, the samples of a batch share rows, see `Packing`. Every 64 steps the samples are then dealt
out anew by their lengths, so that all batches have as many items but for a handful, and one shape
fits them.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np

from genrec_jax.data import packing as packing_lib

NOBODY = -1  # in a slot of a row that holds no sample
_DEALT_STEPS = 64


class Packing(NamedTuple):
    """How the samples of a batch share rows.

    A batch is dealt out to shards, each with rows of its own; so a device needs no other's rows.
    """

    lengths: np.ndarray  # [S] items of each sample
    row_length: int  # L, items of a row
    most: int  # M, samples of a row
    num_shards: int  # G, over all processes


class _Superbatches:
    """Random access to superbatches, as Grain wants it."""

    def __init__(self, num_samples, batch_size, boundaries, seed, process_index, process_count):
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._boundaries = boundaries
        self._seed = seed
        share = batch_size // process_count
        self._columns = slice(process_index * share, (process_index + 1) * share)
        # Two epochs at most meet in a superbatch that is shorter than an epoch.
        self._permutation = functools.lru_cache(maxsize=2)(self._permute)

    def __len__(self):
        return len(self._boundaries) - 1

    def __getitem__(self, number):
        steps = self._boundaries[number], self._boundaries[number + 1]
        return self.stream(*steps)[:, self._columns]

    def stream(self, first: int, last: int) -> np.ndarray:
        """Returns [last - first, batch size] int32: the batches of these steps."""
        places = np.arange(first * self._batch_size, last * self._batch_size)
        epochs, places = np.divmod(places, self._num_samples)
        indices = np.empty(len(places), np.int32)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = self._permutation(int(epoch))[places[here]]
        return indices.reshape(-1, self._batch_size)

    def _permute(self, epoch):
        rng = np.random.default_rng((self._seed, epoch))
        return rng.permutation(self._num_samples).astype(np.int32)


class _PackedSuperbatches:
    """Superbatches whose samples share rows, of the same stream."""

    def __init__(self, superbatches, packing, boundaries, process_index, process_count):
        self._superbatches, self._packing = superbatches, packing
        self._boundaries = boundaries
        share = packing.num_shards // process_count
        self._shards = range(process_index * share, (process_index + 1) * share)
        self._dealt = functools.lru_cache(maxsize=2)(self._deal)

    def __len__(self):
        return len(self._boundaries) - 1

    def __getitem__(self, number):
        steps = range(self._boundaries[number], self._boundaries[number + 1])
        packed, needed = zip(*map(self._packed, steps), strict=True)
        # All superbatches have the first ones' shape, unless one needs more rows than expected.
        num_rows = max(self._expected_rows, _rounded_up(max(needed)))
        slots = np.full(
            (len(steps), len(self._shards), num_rows, self._packing.most), NOBODY, np.int32
        )
        for step, shards in enumerate(packed):
            for shard, rows in enumerate(shards):
                for row, samples in enumerate(rows):
                    slots[step, shard, row, : len(samples)] = samples
        return slots

    @functools.cached_property
    def _expected_rows(self) -> int:
        needed = max(self._packed(step)[1] for step in range(_DEALT_STEPS))
        return _rounded_up(math.ceil(1.02 * needed))

    def _packed(self, step: int) -> tuple[list[list[np.ndarray]], int]:
        """Returns the samples of each row of each shard of this process, and the most rows of any.

        The latter is of all processes' shards, but few of them must be packed to know it. A batch
        is in order of length, and a shard is every G-th of its samples: so it has as many of each
        length as the shard before, unless that would have the first one of another length.
        """
        batch = self._dealt(step // _DEALT_STEPS)[step % _DEALT_STEPS]
        num_shards = self._packing.num_shards
        lengths = self._packing.lengths[batch]
        differing = {0, *((np.flatnonzero(np.diff(lengths)) + 1) % num_shards).tolist()}
        rows = {
            shard: _rows_of(batch[shard::num_shards], self._packing)
            for shard in differing.union(self._shards)
        }
        return [rows[shard] for shard in self._shards], max(map(len, rows.values()))

    def _deal(self, group: int) -> np.ndarray:
        """Returns [64, batch size]: the samples of so many steps, each batch by length."""
        first = group * _DEALT_STEPS
        samples = self._superbatches.stream(first, first + _DEALT_STEPS).reshape(-1)
        order = np.argsort(self._packing.lengths[samples], kind="stable")
        ranks = samples[order].reshape(-1, _DEALT_STEPS)
        ranks[1::2] = ranks[1::2, ::-1].copy()  # to and fro, so that none gets the longer ones
        return ranks.T


def _rows_of(samples: np.ndarray, packing: Packing) -> list[np.ndarray]:
    sizes = packing.lengths[samples].tolist()
    rows = packing_lib.best_fit(sizes, packing.row_length, packing.most)
    return [samples[row] for row in rows]


def _rounded_up(num_rows: int) -> int:
    """Returns the next multiple of a power of two that is an eighth of it at most: few shapes."""
    step = 1 << max(num_rows.bit_length() - 4, 0)
    return -(-num_rows // step) * step


def boundaries(num_steps: int, steps_per_call: int, periods: Sequence[int]) -> list[int]:
    """Returns the steps at which a superbatch begins, and `num_steps`.

    A superbatch has `steps_per_call` steps, or fewer where a multiple of one of the `periods`
    (0 for none) or the end comes first.
    """
    steps = [0]
    while steps[-1] < num_steps:
        here = steps[-1]
        due = [(here // period + 1) * period for period in periods if period]
        steps.append(min(here + steps_per_call, *due, num_steps))
    return steps


def superbatches(
    *,
    num_samples: int,
    batch_size: int,
    boundaries: list[int],
    seed: int,
    process_index: int,
    process_count: int,
    packing: Packing | None = None,
    gather: Callable[[np.ndarray], Any] | None = None,
) -> grain.DatasetIterator:
    """Returns an iterator of [steps, batch_size / process_count] int32 sample numbers.

    With `packing` they are [steps, G / process_count, rows, M], and `NOBODY` where a slot is free.
    How many rows there are may differ between superbatches. With `gather` they are what it makes of
    these numbers. Its state (`get_state`, `set_state`) is
    the number of the next superbatch.
    """
    process = (process_index, process_count)
    source = _Superbatches(num_samples, batch_size, boundaries, seed, *process)
    if packing:
        source = _PackedSuperbatches(source, packing, boundaries, *process)
    dataset = grain.MapDataset.source(source)
    if gather:
        dataset = dataset.map(gather)
    # Too cheap to share between threads; one prepares ahead of the device.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
