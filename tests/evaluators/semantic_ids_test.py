"""What semantic IDs say of their items, worked out by hand or by brute force."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from genrec_jax.evaluators import semantic_ids

CODES = np.array([[0, 1], [0, 1], [0, 2], [3, 1], [3, 1], [3, 1]])
PREFIXES = np.array([[0, 0], [0, 0], [0, 1], [1, 2], [1, 2], [1, 2]])
CATEGORIES = [("A", "x"), ("A", "x"), ("B",), ("B", "x"), ("B", "x"), ("A",)]


def information(groups, classes):
    """Returns the mutual information in nats, from its definition."""
    total, pairs = len(groups), Counter(zip(groups, classes, strict=True))
    of_group, of_class = Counter(groups), Counter(classes)
    return sum(
        n / total * math.log(n * total / of_group[group] / of_class[cls])
        for (group, cls), n in pairs.items()
    )


def test_prefixes():
    np.testing.assert_array_equal(semantic_ids.prefixes(CODES), PREFIXES)
    np.testing.assert_array_equal(semantic_ids.prefixes(CODES[:, :1]), PREFIXES[:, :1])


def test_purity():
    groups = np.array([0, 0, 0, 1, 1, 1, 2])
    assert semantic_ids.purity(groups, np.array([5, 5, 8, 8, 8, 8, 5])) == 6 / 7
    assert semantic_ids.purity(groups, np.array([0, 1, 2, 3, 4, 5, 6])) == 3 / 7
    assert semantic_ids.purity(np.arange(7), groups) == 1  # which is why chance is told as well


def test_agreement():
    groups, classes = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0]
    shuffled = np.array([0, 1, 0, 1, 0, 1])
    values = semantic_ids.agreement(np.array(groups), np.array(classes), shuffled)
    assert (values["purity"], values["chance_purity"]) == (4 / 6, 4 / 6)
    mutual = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert information(groups, classes) == pytest.approx(mutual)
    assert values["nmi"] == pytest.approx(mutual / math.log(2))
    every = [information(groups, order) for order in itertools.permutations(classes)]
    by_chance = sum(every) / len(every)
    expected = (mutual - by_chance) / (math.log(2) - by_chance)
    assert values["ami"] == pytest.approx(expected)


def test_categories_at_each_depth():
    report = semantic_ids.category_report(PREFIXES, CATEGORIES, seed=0)
    assert report["depth_1/num_categories"] == 2 and report["depth_1/num_items"] == 6
    assert report["depth_1/prefix_1/purity"] == 4 / 6
    assert report["depth_1/prefix_2/purity"] == 5 / 6
    # x of A and x of B are two categories, of the four items that have one.
    assert report["depth_2/num_categories"] == 2 and report["depth_2/num_items"] == 4
    assert report["depth_2/prefix_1/purity"] == report["depth_2/prefix_1/ami"] == 1
    assert report == semantic_ids.category_report(PREFIXES, CATEGORIES, seed=0)


def test_depths_at_which_all_are_alike_are_left_out():
    categories = [("Shop", *path) for path in CATEGORIES]
    plain = semantic_ids.category_report(PREFIXES, CATEGORIES, seed=0)
    report = semantic_ids.category_report(PREFIXES, categories, seed=0)
    assert {key for key in report if key.startswith("depth_1/")} == set()
    assert report["depth_2/prefix_2/nmi"] == plain["depth_1/prefix_2/nmi"]
    assert semantic_ids.category_report(PREFIXES, [()] * 6, seed=0) == {}


def test_only_the_adjusted_information_of_unrelated_categories_is_none():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (1000, 2))
    categories = [(name,) for name in rng.choice(list("ABCDE"), 1000)]
    report = semantic_ids.category_report(semantic_ids.prefixes(codes), categories, seed=0)
    for length in (1, 2):
        values = {name: report[f"depth_1/prefix_{length}/{name}"] for name in ("nmi", "ami")}
        assert abs(values["ami"]) < 0.01
        gap = report[f"depth_1/prefix_{length}/purity"]
        gap -= report[f"depth_1/prefix_{length}/chance_purity"]
        assert abs(gap) < 0.03
    assert values["nmi"] > 0.1


def test_collision_groups():
    groups = semantic_ids.collision_groups(np.array([[7, 1], *CODES.tolist(), [7, 1]]))
    assert [group.tolist() for group in groups] == [[4, 5, 6], [1, 2], [0, 7]]
    assert semantic_ids.collision_groups(np.array([[1], [0]])) == []


def test_collisions_that_equal_texts_explain():
    report = semantic_ids.collision_report(CODES, ["a", "b", "d", "d", "d", "e"])
    assert report == {
        "num_groups": 2,
        "num_items": 5,
        "num_collisions": 3,
        "num_items_of_equal_text": 3,  # of which one has another ID
        "explained_by_text": pytest.approx(1 / 3),
        "unique_but_for_text": 3 / 5,
    }
    report = semantic_ids.collision_report(np.array([[0], [1]]), ["a", "a"])
    assert report["num_collisions"] == report["explained_by_text"] == 0
    assert report["unique_but_for_text"] == 1


@pytest.mark.parametrize("entries", [1, 100, 1 << 24])
def test_nearest_items(monkeypatch, entries):
    monkeypatch.setattr(semantic_ids, "_ENTRIES", entries)  # one row a call, two, all
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (50, 3)).astype(np.float32)  # many at equal distances
    rows = np.array([3, 3, 41, 0, 17])
    found = semantic_ids.nearest_items(x, rows, 8)
    for row, neighbours in zip(rows, found, strict=True):
        others = [place for place in range(50) if place != row]
        others.sort(key=lambda place: (((x[place] - x[row]) ** 2).sum(), place))
        assert neighbours.tolist() == others[:8]


def test_neighbours():
    near, near_quantized = np.array([[1, 2], [4, 0]]), np.array([[5, 1], [0, 4]])
    report = semantic_ids.neighbour_report(PREFIXES, np.array([0, 3]), near, near_quantized)
    assert report == {
        "prefix_1/shared": 3 / 4,
        "prefix_1/chance_shared": pytest.approx((2 / 5 + 2 / 5) / 2),
        "prefix_2/shared": 2 / 4,
        "prefix_2/chance_shared": pytest.approx((1 / 5 + 2 / 5) / 2),
        "overlap": 3 / 4,
        "chance_overlap": 2 / 5,
    }


def test_chance_is_what_all_other_items_share():
    every = np.array([[other for other in range(6) if other != item] for item in range(6)])
    report = semantic_ids.neighbour_report(PREFIXES, np.arange(6), every, every)
    for name in ("prefix_1/", "prefix_2/"):
        assert report[f"{name}shared"] == pytest.approx(report[f"{name}chance_shared"])
    assert report["overlap"] == report["chance_overlap"] == 1


def test_partial_sums_of_levels_of_different_sizes():
    codewords = [np.array([[1, 0], [0, 1]]), np.array([[10, 10], [20, 20], [30, 30]])]
    sums = semantic_ids.partial_sums(np.array([[1, 2], [0, 0]]), codewords)
    np.testing.assert_array_equal(sums, [[[0, 1], [1, 0]], [[30, 31], [11, 10]]])


@pytest.mark.parametrize("rows", [1, 8192])
def test_reconstruction(monkeypatch, rows):
    monkeypatch.setattr(semantic_ids, "_ROWS", rows)
    embeddings = np.array([[0, 0], [2, 4]], np.float32)  # variances 1 and 4, of the latents 1
    report = semantic_ids.reconstruction_report(
        embeddings,
        np.array([[[1], [1]], [[0], [3]]]),
        encode=lambda x: x[:, :1],
        decode=lambda z: np.concatenate([z, 2 * z], axis=1),
    )
    assert report == {
        "prefix_1/error": 2.5,
        "prefix_1/relative_error": 1,
        "prefix_1/relative_latent_error": 1,
        "prefix_2/error": 1.25,
        "prefix_2/relative_error": 0.5,
        "prefix_2/relative_latent_error": 0.5,
    }


def test_largest_branches():
    codes = np.array([[2, 5], [1, 4], [0, 0], [2, 3], [1, 4], [2, 5]])
    first, second = semantic_ids.largest_branches(codes, (2, 1))
    assert (first.code, first.items.tolist()) == (2, [0, 3, 5])
    assert (second.code, second.items.tolist()) == (1, [1, 4])
    ((code, items, below),) = first.branches
    assert (code, items.tolist(), below) == (5, [0, 5], [])
    assert semantic_ids.largest_branches(codes[:2], (1,))[0].code == 1  # of two equal ones


def test_labels_of_categories():
    labels = semantic_ids.category_labels
    assert labels(CATEGORIES) == ["A > x", "A > x", None, "B > x", "B > x", None]
    assert labels([("Shop", *path) for path in CATEGORIES])[0] == "A > x"
    assert labels([("A",), ("B", "x", "y"), ()]) == ["A", "B", None]  # few have more
    many = [(name, f"{number}") for number in range(51) for name in "AB"]
    assert labels(many)[:2] == ["A", "B"]  # more than people can tell apart
    assert labels([(), ()]) == [None, None]


def test_categories_by_codes():
    codes = np.array([4, 4, 4, 0, 0, 9, 9, 2])
    labels = ["c", "c", "a", "a", "a", "c", "c", None]
    table = semantic_ids.category_table(codes, labels, 2)
    assert table.labels == ["a", "c", "all others"]
    assert table.codes.tolist() == [0, 9, 4, 2]  # by category, the purest first
    np.testing.assert_array_equal(table.counts, [[2, 0, 1, 0], [0, 2, 2, 0], [0, 0, 0, 1]])
    table = semantic_ids.category_table(codes[:7], labels[:7], 1)
    assert table.labels == ["c", "all others"]
    np.testing.assert_array_equal(table.counts, [[2, 2, 0], [0, 1, 2]])
    assert semantic_ids.category_table(codes[:7], labels[:7], 2).labels == ["a", "c"]
