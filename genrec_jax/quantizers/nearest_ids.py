"""Free semantic IDs near an item: residual quantisation that knows how much room each code has.

A code has room for as many items as there are free IDs that begin with its prefix and itself; at
the last level that is one or none. So a full prefix spills into the nearest one that has room, as
a taken code does into the nearest free one.

M items   T IDs in use   Q levels   K codebook size   C code width   G prefixes   W candidates
"""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genrec_jax.quantizers import vector

_NUM_CANDIDATES = 8  # looked up at once for an item; the next ones once none of these has room
_BLOCK = 256  # items whose candidates are looked up at once
_MAX_CELLS = 2**21  # prefixes times codes whose room is counted at once


def find(
    codes: np.ndarray,
    latents: np.ndarray,
    codebooks: Sequence[np.ndarray],
    taken: np.ndarray,
    distance: str,
) -> np.ndarray:
    """Returns an ID for each item, no two alike and none of those in use.

    Level by level, and in each prefix by itself: if every code has room for all items whose own
    it is, they get it. Otherwise there are rounds. In each, every item that has no code yet asks
    for the one nearest to its residual that has room. If more ask for a code than it has room for,
    the nearest get it, of equally near ones the first. An item that has got another code than its
    own has no own ones at the levels that follow, so its prefix has rounds.

    Each round but the last fills a code, so a prefix has at most K; the rest is sorting. Time is
    O(M log M + T log T) for given codebooks, memory O(M + T).

    Args:
        codes: [M, Q] each item's own codes, at each level the nearest to its residual.
        latents: [M, C] float32.
        codebooks: Q arrays [K, C], whose K may differ. There are at least M + T IDs.
        taken: [T, Q] IDs in use.
        distance: a key of `vector.DISTANCES`, of residuals and codewords.

    Returns:
        [M, Q] int32.
    """
    codebooks = [np.asarray(codebook, np.float32) for codebook in codebooks]
    ids = np.array(codes, np.int32)
    has_left = np.zeros(len(ids), bool)
    groups, taken_groups = np.zeros(len(ids), np.int64), np.zeros(len(taken), np.int64)  # prefixes
    ids_below = math.prod(len(codebook) for codebook in codebooks)
    for level, codebook in enumerate(codebooks):
        size = len(codebook)
        ids_below //= size
        # There may be more IDs than an int64 counts, but no code is asked for more than these.
        capacity = min(ids_below, len(ids) + len(taken))
        taken_cells = taken_groups * size + taken[:, level]
        for rows, local, room in _batches(groups, taken_cells, size, capacity):
            asked = np.bincount(local * size + codes[rows, level], minlength=room.size)
            has_rounds = (asked.reshape(room.shape) > room).any(axis=1)
            has_rounds[local[has_left[rows]]] = True
            in_rounds = has_rounds[local]
            rows, local = rows[in_rounds], local[in_rounds]
            residuals = _residuals(latents[rows], ids[rows], codebooks[:level])
            ids[rows, level] = _ask(residuals, local, room, codebook, distance)
        has_left |= ids[:, level] != codes[:, level]

        prefixes, groups = np.unique(groups * size + ids[:, level], return_inverse=True)
        taken_groups = np.searchsorted(prefixes, taken_cells)
        is_shared = np.append(prefixes, -1)[taken_groups] == taken_cells
        taken, taken_groups = taken[is_shared], taken_groups[is_shared]
    return ids


def _batches(
    groups: np.ndarray, taken_cells: np.ndarray, size: int, capacity: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields some prefixes at a time: items, which of the prefixes is theirs, room [G, K]."""
    order = np.argsort(groups, kind="stable")
    taken_cells = np.sort(taken_cells)
    num_groups = int(groups.max(initial=-1)) + 1
    step = max(_MAX_CELLS // size, 1)
    for first in range(0, num_groups, step):
        last = min(first + step, num_groups)
        rows = order[slice(*np.searchsorted(groups, (first, last), sorter=order))]
        inside = slice(*np.searchsorted(taken_cells, (first * size, last * size)))
        used = np.bincount(taken_cells[inside] - first * size, minlength=(last - first) * size)
        yield rows, groups[rows] - first, (capacity - used).reshape(last - first, size)


def _ask(
    residuals: np.ndarray, groups: np.ndarray, room: np.ndarray, codebook: np.ndarray, distance: str
) -> np.ndarray:
    """Returns [M] codes by the rounds that `find` describes.

    Args:
        residuals: [M, C].
        groups: [M] each item's row of `room`, in which there is enough for all its items.
        room: [G, K] how many items each code has room for.
        codebook: [K, C].
        distance: a key of `vector.DISTANCES`.
    """
    room = room.copy()
    answer = np.empty(len(groups), np.int32)
    asking = np.arange(len(groups))
    codes, distances = _candidates(residuals, room, groups, codebook, distance)
    while len(asking):
        has_room = room[groups[asking, None], codes] > 0  # [M, W]
        (stuck,) = np.nonzero(~has_room.any(axis=1))
        if len(stuck):
            rows = asking[stuck]
            codes[stuck], distances[stuck] = _candidates(
                residuals[rows], room, groups[rows], codebook, distance
            )
            continue
        nearest = np.arange(len(asking)), has_room.argmax(axis=1)
        cells = groups[asking] * len(codebook) + codes[nearest]
        order = np.lexsort((distances[nearest], cells))
        cells = cells[order]
        is_granted = places(cells) < room.reshape(-1)[cells]
        granted, cells = order[is_granted], cells[is_granted]
        answer[asking[granted]] = cells % len(codebook)
        np.subtract.at(room.reshape(-1), cells, 1)
        waits = np.ones(len(asking), bool)
        waits[granted] = False
        asking, codes, distances = asking[waits], codes[waits], distances[waits]
    return answer


def places(sorted_keys: np.ndarray) -> np.ndarray:
    """Returns [N] 0, 1, 2, ... within each run of equal values."""
    return np.arange(len(sorted_keys)) - np.searchsorted(sorted_keys, sorted_keys)


def _candidates(
    residuals: np.ndarray, room: np.ndarray, groups: np.ndarray, codebook: np.ndarray, distance: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest codes [M, W], those with room before all others, and their distances."""
    num_candidates = min(_NUM_CANDIDATES, len(codebook))
    codes = np.empty((len(residuals), num_candidates), np.int32)
    distances = np.empty((len(residuals), num_candidates), np.float32)
    x = np.zeros((_BLOCK, codebook.shape[1]), np.float32)  # of one shape, to be compiled once
    has_room = np.zeros((_BLOCK, len(codebook)), bool)
    for start in range(0, len(residuals), _BLOCK):
        block = slice(start, start + _BLOCK)
        count = len(residuals[block])
        x[:count], has_room[:count] = residuals[block], room[groups[block]] > 0
        nearest = jax.device_get(_nearest(x, codebook, has_room, num_candidates, distance))
        codes[block], distances[block] = (values[:count] for values in nearest)
    return codes, distances


@functools.partial(jax.jit, static_argnames=("num_candidates", "distance"))
def _nearest(x, codebook, has_room, num_candidates, distance):
    distances = vector.DISTANCES[distance](x, codebook)
    # Even what is no number must be nearer than what has no room.
    largest = jnp.finfo(distances.dtype).max
    distances = jnp.where(distances < largest, distances, largest)
    distances = jnp.where(has_room, distances, jnp.inf)
    negative, codes = jax.lax.top_k(-distances, num_candidates)  # of equals the lowest code
    return codes, -negative


def _residuals(x: np.ndarray, ids: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Returns [M, C] what the codewords of the first levels leave over of x [M, C]."""
    for level, codebook in enumerate(codebooks):
        x = x - codebook[ids[:, level]]
    return x
