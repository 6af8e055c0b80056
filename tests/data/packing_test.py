"""Every history lies in the rows once, whole where it fits, and rows are full."""

import numpy as np
import pytest

from genrec_jax.data import packing


def histories(rows):
    """Returns the places of all parts of histories, part by part."""
    parts = []
    for places, segments in zip(rows.places, rows.segments, strict=True):
        parts += [places[segments == number].tolist() for number in range(segments.max() + 1)]
    return sorted(parts)


def test_a_hand_worked_case():
    ends = np.array([3, 4, 8, 10])  # histories of 3, 1, 4 and 2 items
    rows = packing.pack(np.append(0, ends[:-1]), ends, length=6)
    # The longest goes first and leaves room for the last; nothing follows the only item of one.
    assert rows.places.tolist() == [[4, 5, 6, 7, 8, 9], [0, 1, 2, 0, 0, 0]]
    assert rows.segments.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, -1, -1, -1]]
    assert packing.mean_targets(rows) == (3 + 1 + 2) / 2


def test_a_long_history_is_cut_into_parts_that_share_an_item():
    rows = packing.pack(np.array([10]), np.array([18]), length=3)
    assert histories(rows) == [[10, 11, 12], [12, 13, 14], [14, 15, 16], [16, 17]]
    targets = [place for part in histories(rows) for place in part[1:]]
    assert targets == list(range(11, 18))


@pytest.mark.parametrize("length", [2, 7, 64])
def test_each_item_but_the_first_follows_another_once(length):
    sizes = np.random.default_rng(0).geometric(0.15, 500)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    rows = packing.pack(starts, ends, length)
    parts = histories(rows)
    assert all(part == list(range(part[0], part[-1] + 1)) for part in parts)
    targets = sorted(place for part in parts for place in part[1:])
    assert targets == sorted(set(range(ends[-1])) - set(starts.tolist()))
    assert packing.mean_targets(rows) * len(rows) == pytest.approx(len(targets))
    if length == 64:
        assert (rows.segments >= 0).mean() > 0.98


def test_the_parts_of_a_row_fit_as_well_as_they_can():
    ends = np.cumsum([5, 4, 3, 2, 2])
    rows = packing.pack(np.append(0, ends[:-1]), ends, length=8)
    # 3 goes to the fuller row, which has exactly that room; one 2 goes to the other, then the last.
    sizes = [np.bincount(row[row >= 0]).tolist() for row in rows.segments]
    assert sizes == [[5, 3], [4, 2, 2]]


def test_nothing_to_predict_gives_no_rows():
    rows = packing.pack(np.array([0, 1]), np.array([1, 2]), length=8)
    assert len(rows) == 0 and rows.places.shape == (0, 8)
    assert packing.mean_targets(rows) == 0


def test_the_fullest_row_with_room_takes_the_next_largest():
    # 5, then 4 and 1, then 3 and 2: the 1 goes into the fuller of the two rows that have room.
    assert packing.best_fit([3, 1, 5, 2, 4], 5, most=5) == [[2], [4, 1], [0, 3]]


def test_a_row_takes_no_more_than_the_most():
    assert packing.best_fit([1, 1, 1, 1, 1], 5, most=2) == [[0, 1], [2, 3], [4]]
