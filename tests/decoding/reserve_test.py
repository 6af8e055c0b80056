"""Places for unseen items, by hand. Items 7, 8 and 9 are unseen."""

import numpy as np
import pytest

from genrec_jax.decoding import reserve

IS_UNSEEN = np.arange(10) >= 7


def fill(items, unseen, share):
    """Returns the list for one user, with scores that are minus the item in tenths."""
    items, unseen = np.array([items], np.int32), np.array([unseen], np.int32)
    scores = [np.where(some < 0, -np.inf, -some / 10) for some in (items, unseen)]
    best, best_scores = reserve.fill(items, scores[0], unseen, scores[1], IS_UNSEEN, share)
    np.testing.assert_array_equal(best_scores, np.where(best < 0, -np.inf, -best / 10))
    assert best.dtype == np.int32
    return best[0].tolist()


@pytest.mark.parametrize(
    "share, expected",
    [
        (0.0, [0, 1, 2, 3, 4, 5]),
        (0.16, [0, 1, 2, 3, 4, 5]),  # six places are too few for one
        (0.2, [0, 1, 2, 3, 8, 4]),  # the fifth
        (0.5, [0, 8, 1, 9, 2, 7]),
        (0.9, [0, 8, 9, 7, 1, 2]),  # there are no more
    ],
)
def test_each_length_has_its_share(share, expected):
    assert fill([0, 1, 2, 3, 4, 5], [8, 9, 7], share) == expected


def test_unseen_items_that_are_best_anyway_count():
    assert fill([8, 0, 1, 2, 3, 4], [8, 9, 7], 0.3) == [8, 0, 1, 2, 3, 4]
    assert fill([8, 0, 1, 2, 3, 4], [8, 9, 7], 0.5) == [8, 0, 1, 9, 2, 7]


def test_an_item_that_was_reserved_a_place_does_not_come_again():
    assert fill([0, 1, 8, 2, 3, 4], [8, 9, 7], 0.5) == [0, 8, 1, 9, 2, 7]
    assert fill([0, 1, 2, 8, 3, 4], [9, 8, 7], 0.34) == [0, 1, 9, 2, 8, 3]


def test_an_unseen_item_that_only_the_search_among_all_found():
    assert fill([7, 0, 1, 2], [8, -1], 0.5) == [7, 0, 1, 8]
    assert fill([0, 7, 1, 2], [8, -1], 0.9) == [0, 8, 7, 1]


def test_too_few_items_of_either_kind():
    assert fill([0, 1, -1, -1], [-1, -1], 0.5) == [0, 1, -1, -1]
    assert fill([0, 7, -1, -1], [7, -1], 0.5) == [0, 7, -1, -1]
    assert fill([-1, -1, -1], [-1, -1], 0.5) == [-1, -1, -1]


def test_the_share_of_a_number_is_exact():
    items = np.arange(1000, dtype=np.int32)[None]
    unseen = np.arange(1000, 2000, dtype=np.int32)[None]
    scores = -items.astype(float), -unseen.astype(float)
    is_unseen = np.arange(2000) >= 1000
    best, _ = reserve.fill(items, scores[0], unseen, scores[1], is_unseen, 0.29)
    counts = (best[0] >= 1000).cumsum()
    assert counts.tolist() == [29 * place // 100 for place in range(1, 1001)]


def test_random_lists_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    is_unseen = rng.random(60) < 0.4
    scores = rng.normal(size=(50, 60))
    order = np.argsort(-scores)
    is_new = is_unseen[order]
    items = order[:, :20]
    unseen = np.stack([row[new][:12] for row, new in zip(order, is_new, strict=True)])
    take = lambda some: np.take_along_axis(scores, some, axis=1)  # noqa: E731
    for share in (0.1, 0.35, 0.7):
        best, best_scores = reserve.fill(items, take(items), unseen, take(unseen), is_unseen, share)
        for row in range(50):
            expected = []
            for place in range(20):
                num_unseen = sum(is_unseen[item] for item in expected)
                due = num_unseen < int(share * (place + 1) + 1e-9)
                left = [item for item in order[row] if item not in expected]
                left_unseen = [item for item in unseen[row] if item not in expected]
                expected.append(left_unseen[0] if due and left_unseen else left[0])
            assert best[row].tolist() == expected
        np.testing.assert_array_equal(best_scores, take(best))
    assert (best_scores[:, 1:] > best_scores[:, :-1]).any()
