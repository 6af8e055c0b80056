"""Which part of each history is for training, and which items are to be predicted.

Leave-one-out: the last item is the test target, the one before is the validation target, all
before that is for training. A user with fewer than three items has none to spare and serves for
training only.

Temporal: two points in time cut all histories at once. What lies before the first is for training;
of each user, the first item from there on is the validation target, and the first item from the
second point on is the test target. Nothing that a model is trained on is later than anything that
it has to predict, as leave-one-out cannot promise. A user without an item before a target's period
has no history to start from and is not asked.

U users   N interactions
"""

import dataclasses

import numpy as np

from genrec_jax.errors import UserError

NAMES = ("leave_one_out", "temporal")
MIN_ITEMS_TO_LEAVE_ONE_OUT = 3
UNKNOWN_TIME = -1
_NEVER = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class Splits:
    """Places in the flat array of all interactions.

    Attributes:
        train_ends: [U] int64, where each user's training part ends.
        targets: for `valid` and `test`, [U] int64: where each user's target is, -1 for none. The
            history before it is all that the user has before it.
        facts: metrics about the splits.
    """

    train_ends: np.ndarray
    targets: dict[str, np.ndarray]
    facts: dict[str, float]


def leave_one_out(offsets: np.ndarray) -> Splits:
    """Returns the splits of histories that end at `offsets[1:]` ([U + 1])."""
    has_targets = np.diff(offsets) >= MIN_ITEMS_TO_LEAVE_ONE_OUT
    ends = offsets[1:]
    targets = {
        split: np.where(has_targets, ends - from_end, -1)
        for split, from_end in (("valid", 2), ("test", 1))
    }
    return Splits(ends - 2 * has_targets, targets, {})


def temporal(
    offsets: np.ndarray, times: np.ndarray | None, valid_share: float, test_share: float
) -> Splits:
    """Returns the splits at the times after which the given shares of all events lie.

    Events at the same time are on the same side. An event of unknown time is taken to be as late
    as the next event of its user whose time is known, so that nothing late is trained on; if there
    is none, it is neither trained on nor a target.

    Args:
        offsets: [U + 1] where histories begin and end.
        times: [N] int64, `UNKNOWN_TIME` where unknown.
        valid_share: share of the events, by time, in the validation period.
        test_share: share of the events in the test period, which follows it.

    Raises:
        UserError: if there are no times, or they go back within a history.
    """
    if times is None or (times == UNKNOWN_TIME).all():
        raise UserError(
            "--config.data.split=temporal needs times, and this data set has none: give them, or "
            "use leave_one_out"
        )
    starts, ends = offsets[:-1], offsets[1:]
    owner = np.repeat(np.arange(len(starts)), ends - starts)  # [N]
    latest = _latest_times(times, owner)
    known = np.sort(times[times != UNKNOWN_TIME])
    valid_from, test_from = (
        known[min(int(len(known) * (1 - share)), len(known) - 1)]
        for share in (valid_share + test_share, test_share)
    )

    def first_place_from(time):
        return starts + np.bincount(owner, latest < time, minlength=len(starts)).astype(np.int64)

    def targets(time, until):
        place = first_place_from(time)
        is_there = place < ends
        is_there[is_there] = latest[place[is_there]] < until
        return np.where(is_there & (place > starts), place, -1), is_there & (place == starts)

    valid, _ = targets(valid_from, test_from)
    test, is_new = targets(test_from, _NEVER)
    facts = {
        "data/valid_from": int(valid_from),
        "data/test_from": int(test_from),
        "data/num_unknown_times": int((times == UNKNOWN_TIME).sum()),
        "data/num_new_users_in_test": int(is_new.sum()),
    }
    return Splits(first_place_from(valid_from), {"valid": valid, "test": test}, facts)


def _latest_times(times: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Returns [N]: each event's time, the next known one of its user, or `_NEVER`."""
    places = np.flatnonzero(times != UNKNOWN_TIME)
    goes_back = (np.diff(times[places]) < 0) & (np.diff(owner[places]) == 0)
    if goes_back.any():
        user = owner[places[1:][goes_back][0]]
        raise UserError(
            f"--config.data.split=temporal: the times of user number {user + 1} go back: order "
            "each history by time"
        )
    next_known = np.searchsorted(places, np.arange(len(times)))
    padded = np.append(places, -1)  # for events after the last known one
    next_place = padded[np.minimum(next_known, len(places))]
    is_mine = (next_place >= 0) & (owner[next_place] == owner)
    return np.where(is_mine, times[next_place], _NEVER)
