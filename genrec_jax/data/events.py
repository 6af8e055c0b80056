"""Who had what when, as arrays, and the histories that follow from it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from genrec_jax.data import k_core as k_core_lib
from genrec_jax.errors import UserError


class Events(NamedTuple):
    """N events: each field is [N]."""

    users: np.ndarray  # numbers, in the order of their first rows
    items: np.ndarray  # places in the list of items, -1 for those that it lacks
    exact_times: np.ndarray  # in any unit, or the number of the row if there is no time
    seconds: np.ndarray  # int64, -1 for unknown

    def take(self, rows: np.ndarray) -> "Events":
        return Events(*(field[rows] for field in self))


def keep(events: Events, is_kept: np.ndarray) -> tuple[Events, int]:
    """Returns some of the events, and how many the others are."""
    return events.take(is_kept), int((~is_kept).sum())


def is_first(events: Events) -> np.ndarray:
    """Returns [N] bool: which events are the first with their user, item and time."""
    keys = (events.users, events.items, events.exact_times)
    order = np.lexsort(keys)  # equal ones stay in the order of the file
    is_same = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    first = np.ones(len(order), bool)
    first[order[1:][is_same]] = False
    return first


def core(
    where: object, items: Sequence[dict], events: Events, k: int
) -> tuple[list[dict], Events, dict[str, int]]:
    """Returns the items and events of the k-core, and facts about it.

    `where` names the file in the error that nothing is left.
    """
    left, _ = keep(events, k_core_lib.k_core(events.users, events.items, k))
    if not len(left.users):
        raise UserError(
            f"{where}: no users and items are left that have {k} events each: lower "
            f"--config.data.k_core={k}"
        )
    places = np.unique(left.items)
    num_users, num_users_left = (len(np.unique(part.users)) for part in (events, left))
    facts = {
        "data/num_users_outside_core": num_users - num_users_left,
        "data/num_items_outside_core": len(items) - len(places),
    }
    left = left._replace(items=np.searchsorted(places, left.items))
    return [items[place] for place in places], left, facts


def histories(events: Events, names: Sequence[str], has_times: bool) -> Iterator[dict]:
    """Yields a user record for each user with events, these by time and then as in the file.

    `names` are the users' by their numbers.
    """
    events = events.take(np.lexsort((events.exact_times, events.users)))
    users, starts = np.unique(events.users, return_index=True)
    ends = np.append(starts[1:], len(events.users))
    for user, start, end in zip(users, starts, ends, strict=True):
        yield {
            "user_id": names[user],
            "items": events.items[start:end].tolist(),
            "times": events.seconds[start:end].tolist() if has_times else [],
        }
