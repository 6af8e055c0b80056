"""Histories packed into rows of one length, so that a batch has hardly any padding.

A row holds several histories, one after the other; a model keeps them apart by their numbers. So a
step costs what its items cost, however unequal the histories are.

R rows   L places of a row
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

NOWHERE = -1  # the segment of places that hold nothing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """What lies where.

    Attributes:
        places: [R, L] int32 places in `Corpus.items`; 0 where a row holds nothing.
        segments: [R, L] int32 which of its row's histories each is of, from 0 on; `NOWHERE` where
            a row holds nothing.
    """

    places: np.ndarray
    segments: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: np.ndarray) -> "Rows":
        return jax.tree.map(lambda field: field[rows], self)


def pack(starts: np.ndarray, ends: np.ndarray, length: int) -> Rows:
    """Returns the rows of the histories `starts[u]:ends[u]` that have two items or more.

    A history of more than `length` items is cut into parts, each of which begins with the last
    item of the part before it: so every item but a history's first follows another once. The
    longest go first, each into the fullest row that has room for it (best fit, decreasing).

    Args:
        starts, ends: [U] int places.
        length: L, 2 at least.
    """
    parts = [
        (first, min(first + length, end))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        for first in range(start, end - 1, length - 1)
    ]
    rows = best_fit([end - first for first, end in parts], length, length)
    places = np.zeros((len(rows), length), np.int32)
    segments = np.full((len(rows), length), NOWHERE, np.int32)
    for row, held in enumerate(rows):
        filled = 0
        for segment, number in enumerate(held):
            first, end = parts[number]
            after = filled + end - first
            places[row, filled:after] = np.arange(first, end)
            segments[row, filled:after] = segment
            filled = after
    return Rows(places, segments)


def best_fit(sizes: Sequence[int], length: int, most: int) -> list[list[int]]:
    """Returns rows of numbers of `sizes`, which sum to `length` at most in each.

    The largest go first, each into the fullest row that has room for it (best fit, decreasing), if
    it holds less than `most`.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(length + 1)]  # rows by their free places
    rooms = 0  # bit r is set if there are rows with r free places
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        size = sizes[number]
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = length, len(rows)
            rows.append([])
        rows[row].append(number)
        if len(rows[row]) < most:
            with_room[room - size].append(row)
            rooms |= 1 << (room - size)
    return rows


def gather(stored: dict, numbers) -> dict:
    """Returns items and segments [B, L] of the rows with these numbers [B], see `histories`."""
    rows = stored["samples"].take(numbers)
    return {"items": stored["items"][rows.places], "segments": rows.segments}


def mean_targets(rows: Rows) -> float:
    """Returns how many items of a row follow another of their history, the mean over the rows."""
    one, other = rows.segments[:, :-1], rows.segments[:, 1:]
    return float(np.sum((one == other) & (one != NOWHERE)) / max(len(rows), 1))
