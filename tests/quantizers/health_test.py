"""Health of codes, worked out by hand."""

import numpy as np
import pytest

from genrec_jax.quantizers import health


def test_report():
    codes = np.array([[0, 1], [0, 1], [2, 1], [2, 3]])
    codebooks = np.full((2, 4, 1), [3.0])
    report = health.report(codes, codebooks)
    assert report["tokenizer/unique_before"] == 3 / 4
    assert report["tokenizer/largest_group"] == 2
    assert report["tokenizer/entropy"] == pytest.approx(-(0.5 * np.log(0.5) + 0.5 * np.log(0.25)))
    assert report["tokenizer/level_0/usage"] == 2 / 4
    assert report["tokenizer/level_0/dead_codes"] == 2
    assert report["tokenizer/level_0/perplexity"] == pytest.approx(2)
    assert report["tokenizer/level_1/usage"] == 2 / 4  # code 3 is used once
    assert report["tokenizer/level_1/dead_codes"] == 2
    assert report["tokenizer/level_1/perplexity"] == pytest.approx(0.75**-0.75 * 0.25**-0.25)
    assert report["tokenizer/level_1/mean_norm"] == 3.0
    assert report["tokenizer/level_0/gini"] == pytest.approx(1 / 2)  # counts 2 0 2 0


@pytest.mark.parametrize(
    "counts, expected",
    [
        ([5, 5, 5, 5], 0),
        ([0, 0, 8, 0], 3 / 4),
        ([1], 0),
        # The differences of 16 ordered pairs: 4 of 1, 4 of 2, 2 of 3; the mean count is 1.25.
        ([1, 1, 0, 3], (4 * 1 + 4 * 2 + 2 * 3) / 16 / 2 / 1.25),
    ],
)
def test_gini(counts, expected):
    assert health.gini(np.array(counts)) == pytest.approx(expected)


def test_levels_may_have_different_sizes():
    codes = np.array([[0, 1], [1, 1]])
    report = health.report(codes, [np.ones((2, 3)), np.ones((4, 3))])
    assert report["tokenizer/level_0/gini"] == 0
    assert report["tokenizer/level_1/gini"] == pytest.approx(3 / 4)
    assert report["tokenizer/level_1/dead_codes"] == 3


def test_unique_share():
    assert health.unique_share(np.array([[0, 1], [0, 1], [1, 0], [2, 2]])) == 3 / 4
