"""Flat events to histories."""

import numpy as np
import pyarrow as pa
import pytest

from genrec_jax.data import events as events_lib
from genrec_jax.data.events import Events
from genrec_jax.errors import UserError

NAMES = pa.array(["u", "v"]), pa.array(["a", "b", "c"])


def events(users, items, times):
    return Events(*map(np.array, (users, items, times, times)))


def to_records(flat, known=("c", "b", "a"), **changes):
    asked = []

    def read_items(wanted):
        asked.append(wanted)
        return [{"item_id": name} for name in known]

    settings = {"has_times": True, "k_core": 0, "where": "file"} | changes
    records = events_lib.to_records(flat, *NAMES, read_items, **settings)
    return list(records.items), list(records.users), records.facts, asked


def test_the_first_of_equal_events_is_kept():
    flat = events([0, 1, 0, 0, 0], [2, 2, 2, 1, 2], [5, 5, 5, 5, 6])
    assert events_lib.is_first(flat).tolist() == [True, True, False, True, True]
    assert events_lib.is_first(flat.take(np.array([], int))).tolist() == []


def test_the_catalogue_is_what_somebody_has_in_the_order_of_the_descriptions():
    flat = events([1, 0, 1, 1], [2, 0, 0, 0], [9, 3, 4, 4])
    items, users, facts, asked = to_records(flat)
    assert items == [{"item_id": "c"}, {"item_id": "a"}]
    assert users == [
        {"user_id": "u", "items": [1], "times": [3]},
        {"user_id": "v", "items": [1, 0], "times": [4, 9]},
    ]
    assert facts == {"data/num_duplicated_events": 1, "data/num_events_of_unknown_items": 0}
    assert asked == [{"a", "c"}]


def test_without_times_everything_stays_in_order():
    flat = events([1, 1, 1], [2, 0, 2], [0, 1, 2])
    _, users, facts, _ = to_records(flat, has_times=False)
    assert users == [{"user_id": "v", "items": [0, 1, 0], "times": []}]
    assert facts == {"data/num_events_of_unknown_items": 0}


def test_only_the_core_is_looked_for():
    flat = events([0, 0, 1, 1, 1], [0, 1, 0, 1, 2], [1, 2, 3, 4, 5])
    items, _, facts, asked = to_records(flat, k_core=2)
    assert asked == [{"a", "b"}]
    assert [item["item_id"] for item in items] == ["b", "a"]
    assert facts["data/num_items_outside_core"] == 1
    with pytest.raises(UserError, match=r"^file: no users and items are left that have 2"):
        to_records(flat, known=("a",), k_core=2)
    with pytest.raises(UserError, match=r"^file: none of its items is described: the first .*'a'"):
        to_records(flat, known=())
