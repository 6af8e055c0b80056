"""What a data set is like, and what in it is likely to be a mistake.

I items   U users   N interactions
"""

import collections
from typing import NamedTuple

import numpy as np

from genrec_jax.data.corpus import Corpus
from genrec_jax.data.splits import MIN_ITEMS_TO_LEAVE_ONE_OUT, UNKNOWN_TIME

_NUM_EXAMPLES = 3
# What sources leave out, by the facts that count it.
_LEFT_OUT = {
    "data/num_bad_lines": "lines left out, which cannot be read",
    "data/num_events_of_unknown_items": "events left out, of items that are not there",
    "data/num_events_without_time": "events left out, without a time",
    "data/num_duplicated_events": "events left out, with the user, item and time of another",
}


class Problem(NamedTuple):
    """Something that a data set should have none of."""

    name: str
    count: int
    what: str
    examples: list[str]  # the first items or users that have it


def lengths(corpus: Corpus) -> np.ndarray:
    """Returns [U]: how many events each user has."""
    return np.diff(corpus.offsets)


def popularity(corpus: Corpus) -> np.ndarray:
    """Returns [I]: how many events each item has."""
    return np.bincount(corpus.items, minlength=corpus.num_items)


def histogram(counts: np.ndarray) -> list[dict[str, int]]:
    """Returns how many of the counts are 0, 1, 2 to 3, 4 to 7 and so on, as far as there are any.

    Args:
        counts: [...] whole numbers, at least one.
    """
    _, num_bits = np.frexp(counts)
    how_many = np.bincount(num_bits.ravel())
    bins = range(num_bits.min(), num_bits.max() + 1)
    return [
        {"first": 2**size // 2, "last": 2**size - 1, "count": int(how_many[size])} for size in bins
    ]


def problems(corpus: Corpus) -> list[Problem]:
    """Returns what was looked for, whether there is any of it or not."""
    shortest = MIN_ITEMS_TO_LEAVE_ONE_OUT
    texts = [text.strip() for text in corpus.texts]
    sharers = collections.Counter(filter(None, texts))
    has_text = np.array([bool(text) for text in texts])
    shares_text = np.array([sharers[text] > 1 for text in texts])
    left_out = [
        Problem(name.removeprefix("data/num_"), corpus.facts[name], what, [])
        for name, what in _LEFT_OUT.items()
        if name in corpus.facts
    ]
    of_items = [
        ("items_without_text", "items without text", ~has_text),
        ("items_with_the_text_of_others", "items with the text of another item", shares_text),
        ("items_without_events", "items without events", popularity(corpus) == 0),
    ]
    of_users = [
        ("short_histories", f"users with fewer than {shortest} events", lengths(corpus) < shortest)
    ]
    user = np.repeat(np.arange(corpus.num_users), lengths(corpus))  # [N]
    of_events = _of_events(user, corpus.items.astype(np.int64), corpus.times)
    found = (
        [(*one, "item", corpus.item_ids, np.arange(corpus.num_items)) for one in of_items]
        + [(*one, "user", corpus.user_ids, np.arange(corpus.num_users)) for one in of_users]
        + [(*one, "user", corpus.user_ids, user) for one in of_events]
    )
    return left_out + [
        Problem(name, int(is_so.sum()), what, _examples(kind, ids, places[is_so]))
        for name, what, is_so, kind, ids, places in found
    ]


def _of_events(user: np.ndarray, item: np.ndarray, times: np.ndarray | None) -> list[tuple]:
    """Returns name, description and which events it is true of ([N] bool) for each problem."""
    repeats = "events of an item that the user has had before"
    found = [("repeated_items", repeats, _is_repeated(user, item))]
    if times is None:
        return found
    is_known = times != UNKNOWN_TIME
    duplicates = "events with the user, item and time of another"
    return [
        *found,
        ("duplicated_events", duplicates, is_known & _is_repeated(user, item, times)),
        ("unknown_times", "events without a time", ~is_known),
        (
            "times_that_go_back",
            "events earlier than the one before",
            _goes_back(user, times, is_known),
        ),
    ]


def _is_repeated(*keys: np.ndarray) -> np.ndarray:
    """Returns [N] bool: whether the keys [N], all of them, are those of an earlier place."""
    order = np.lexsort(keys)  # stable, so that the first place comes first
    is_same = np.all([key[order[1:]] == key[order[:-1]] for key in keys], axis=0)
    is_repeated = np.zeros(len(order), bool)
    is_repeated[order[1:]] = is_same
    return is_repeated


def _goes_back(user: np.ndarray, times: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Returns [N] bool: whether the user's last known time before is later than that of a place."""
    places = np.flatnonzero(is_known)
    before, after = places[:-1], places[1:]
    goes_back = np.zeros(len(times), bool)
    goes_back[after] = (user[before] == user[after]) & (times[before] > times[after])
    return goes_back


def _examples(kind: str, ids: list[str], places: np.ndarray) -> list[str]:
    return [f"{kind} {ids[place]}" for place in np.unique(places)[:_NUM_EXAMPLES]]
