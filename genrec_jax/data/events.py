"""Who had what, when: a flat list of events to users' histories."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from genrec_jax.data import k_core as k_core_lib
from genrec_jax.data.records import Records
from genrec_jax.errors import UserError


class Events(NamedTuple):
    """N events: each field is [N]."""

    users: np.ndarray  # in the order of their first rows
    items: np.ndarray  # places in a list of items, -1 for those that it lacks
    exact_times: np.ndarray  # in any unit, or the number of the row if there is no time
    seconds: np.ndarray  # int64, -1 for unknown

    def take(self, rows: np.ndarray) -> "Events":
        return Events(*(field[rows] for field in self))


def keep(events: Events, is_kept: np.ndarray) -> tuple[Events, int]:
    """Returns some of the events, and how many the others are."""
    num_others = int((~is_kept).sum())
    return (events.take(is_kept) if num_others else events), num_others


def is_first(events: Events) -> np.ndarray:
    """Returns [N] bool: which events are the first with their user, item and time."""
    keys = (events.users, events.items, events.exact_times)
    order = np.lexsort(keys)  # equal ones stay in the order of the file
    is_same = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        ordered = key[order]
        is_same &= ordered[1:] == ordered[:-1]
    firsts = np.ones(len(order), bool)
    firsts[order[1:][is_same]] = False
    return firsts


def core(events: Events, k: int, where: str) -> Events:
    """Returns the events of users and items that have `k` of them; all, if `k` is 0.

    Args:
        where: the file, for the message.

    Raises:
        UserError: if none is left.
    """
    if not k:
        return events
    events, _ = keep(events, k_core_lib.k_core(events.users, events.items, k))
    if not len(events.users):
        raise UserError(
            f"{where}: no users and items are left that have {k} events each: lower "
            f"--config.data.k_core={k}"
        )
    return events


def core_facts(before: Events, after: Events, num_items: int) -> dict[str, int]:
    """Returns how many users, and how many of `num_items` items, `core` has removed."""
    num_users, num_users_left = (len(np.unique(events.users)) for events in (before, after))
    return {
        "data/num_users_outside_core": num_users - num_users_left,
        "data/num_items_outside_core": num_items - len(np.unique(after.items)),
    }


def users(events: Events, names: pa.Array, has_times: bool) -> Iterator[dict]:
    """Yields user records, each one's events in the order of time, then in that of the file."""
    events = events.take(np.lexsort((events.exact_times, events.users)))
    numbers, starts = np.unique(events.users, return_index=True)
    ends = np.append(starts[1:], len(events.users))
    for number, start, end in zip(numbers, starts, ends, strict=True):
        yield {
            "user_id": names[number].as_py(),
            "items": events.items[start:end].tolist(),
            "times": events.seconds[start:end].tolist() if has_times else [],
        }


def to_records(
    events: Events,
    user_names: pa.Array,
    item_names: pa.Array,
    read_items: Callable[[set[str]], list[dict]],
    *,
    has_times: bool,
    k_core: int,
    where: str,
) -> Records:
    """Returns the records of events whose items are described elsewhere, in a long list.

    Of those with the same user, item and time one is kept, if there are times. Then users and
    items with fewer than `k_core` events are removed until there are none, and events of items
    that have no description, and such users and items again. The catalogue is the items that are
    left, so that of the long list no more is kept than that.

    Args:
        events: `items` are places in `item_names`, and `users` in `user_names`.
        read_items: returns the item records that it finds of the items asked for, each once.
        where: the file of the events, for messages.
    """
    facts = {}
    if has_times:
        events, facts["data/num_duplicated_events"] = keep(events, is_first(events))
    left = core(events, k_core, where)
    wanted = item_names.take(pa.array(np.unique(left.items)))
    items = read_items(set(wanted.to_pylist()))
    places = {item["item_id"]: place for place, item in enumerate(items)}
    to_place = np.array([places.get(name, -1) for name in item_names.to_pylist()], np.int32)
    num_items = len(np.unique(events.items))
    left = left._replace(items=to_place[left.items])
    left, facts["data/num_events_of_unknown_items"] = keep(left, left.items >= 0)
    if not len(left.users):
        raise UserError(
            f"{where}: none of its items is described: the first one is "
            f"{item_names[0].as_py()!r}; get the descriptions that belong to it"
        )
    left = core(left, k_core, where)
    if k_core:
        facts |= core_facts(events, left, num_items)
    catalogue = np.unique(left.items)
    left = left._replace(items=np.searchsorted(catalogue, left.items).astype(np.int32))
    return Records([items[place] for place in catalogue], users(left, user_names, has_times), facts)
