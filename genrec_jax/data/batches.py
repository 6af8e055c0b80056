"""Which samples each training step uses: a Grain pipeline of indices.

The stream of samples is epoch after epoch, each a permutation of its own; step t takes the next
`batch_size` of them, across the border of two epochs if need be, so every sample of an epoch is
used exactly once and no batch is short. An element of the pipeline is a superbatch, the batches
of all steps of one dispatch. Each process gets its columns of every batch, so the batches do not
depend on the number of processes.
"""

import functools
from collections.abc import Sequence

import grain
import numpy as np


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
        first, last = self._boundaries[number], self._boundaries[number + 1]
        places = np.arange(first * self._batch_size, last * self._batch_size)
        epochs, places = np.divmod(places, self._num_samples)
        indices = np.empty(len(places), np.int32)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = self._permutation(int(epoch))[places[here]]
        return indices.reshape(-1, self._batch_size)[:, self._columns]

    def _permute(self, epoch):
        rng = np.random.default_rng((self._seed, epoch))
        return rng.permutation(self._num_samples).astype(np.int32)


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
) -> grain.DatasetIterator:
    """Returns an iterator of [steps, batch_size / process_count] int32 sample numbers.

    Its state (`get_state`, `set_state`) is the number of the next superbatch.
    """
    source = _Superbatches(num_samples, batch_size, boundaries, seed, process_index, process_count)
    # Index arithmetic is too cheap to share between threads; one prepares ahead of the device.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    return iter(grain.MapDataset.source(source).to_iter_dataset(options))
