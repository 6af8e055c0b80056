"""What an inspection finds, by hand."""

import dataclasses

import numpy as np

from genrec_jax.data import inspection
from tests.data.corpus_test import make

HISTORIES = [[0, 1, 2, 0, 0], [3, 4], [5, 5, 6, 1]]
TIMES = [1, 2, -1, 1, 4, 5, -1, 7, 7, 9, 8]


def found(corpus):
    return {problem.name: problem for problem in inspection.problems(corpus)}


def test_bins_of_a_histogram_double():
    counts = np.array([2**40, 2**40 - 1, 1, 1, 2, 3, 4, 0])
    bins = inspection.histogram(counts)
    assert [tuple(row.values()) for row in bins[:4]] == [(0, 0, 1), (1, 1, 2), (2, 3, 2), (4, 7, 1)]
    assert [row["count"] for row in bins[-2:]] == [1, 1] and len(bins) == 42
    assert tuple(bins[-1].values()) == (2**40, 2**41 - 1, 1)
    assert inspection.histogram(np.array([5, 6])) == [{"first": 4, "last": 7, "count": 2}]


def test_each_problem_is_counted_with_examples():
    texts = ["a", "b", " ", "d", "same", "same ", "", "h"]
    corpus = make(HISTORIES, num_items=8, texts=texts)
    facts = {
        "data/num_bad_lines": 4,
        "data/num_duplicated_events": 9,
        "data/num_users_outside_core": 7,
    }
    corpus = dataclasses.replace(corpus, times=np.array(TIMES, np.int64), facts=facts)
    problems = {
        name: (problem.count, problem.examples)
        for name, problem in found(corpus).items()
        if name != "duplicated_events"
    }
    assert problems == {
        "bad_lines": (4, []),
        "items_without_text": (2, ["item i2", "item i6"]),
        "items_with_the_text_of_others": (2, ["item i4", "item i5"]),
        "items_without_events": (1, ["item i7"]),
        "short_histories": (1, ["user u1"]),
        "repeated_items": (3, ["user u0", "user u2"]),
        "unknown_times": (2, ["user u0", "user u1"]),
        "times_that_go_back": (2, ["user u0", "user u2"]),  # -1 lies between u0's 2 and 1
    }
    duplicated = [
        problem.count
        for problem in inspection.problems(corpus)
        if problem.name == "duplicated_events"
    ]
    assert duplicated == [9, 2]  # left out by the source, and left in


def test_without_times_and_problems_all_counts_are_zero():
    problems = found(make([[0, 1, 2], [2, 1, 0]], num_items=3))
    assert {problem.count for problem in problems.values()} == {0}
    assert "times_that_go_back" not in problems and not any(p.examples for p in problems.values())
