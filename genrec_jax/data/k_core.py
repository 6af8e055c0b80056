"""Users and items with enough events to learn from."""

import numpy as np


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Returns which events are left once every user and item has none or at least `k` of them.

    Removing an item may leave a user with too few events, whose removal may leave another item
    with too few, and so on. What is left does not depend on the order of removal.

    Args:
        users, items: [N] int, the user and the item of each event.

    Returns:
        [N] bool.
    """
    is_left = np.ones(len(users), bool)
    while True:
        enough = is_left.copy()
        for owners in (users, items):
            counts = np.bincount(owners[is_left], minlength=owners.max(initial=0) + 1)
            enough &= counts[owners] >= k
        if (enough == is_left).all():
            return is_left
        is_left = enough
