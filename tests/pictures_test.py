"""Pictures are PNG files of a size that people can read, whatever the tokenizer is like."""

import numpy as np
import pytest
from matplotlib import image

from genrec_jax import pictures

RNG, NUM_ITEMS = np.random.default_rng(0), 900
CODES = RNG.integers(0, 4, (NUM_ITEMS, 6))
TITLES = [
    f"A long title, with $\\broken {{mathematics in it\nand two lines, {n}"
    for n in range(NUM_ITEMS)
]
LABELS = [(None, "A > $x", "A > y", "B > z")[code] for code in CODES[:, 0]]


def pixels(path):
    """Returns the picture [height, width, RGB], which is not blank."""
    picture = image.imread(path, format="png")[:, :, :3]
    assert picture.min() < 0.5 and picture.max() == 1
    return picture


def heights(picture, colour):
    """Returns how many pixels of the colour each column of the picture has."""
    rgb = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return np.isclose(picture, rgb, atol=1e-3).all(axis=-1).sum(axis=0)


@pytest.mark.parametrize("num_levels, size", [(1, (630, 510)), (3, (1890, 510)), (6, (2520, 1020))])
def test_usage(tmp_path, num_levels, size):
    codebooks = [np.ones((4 + level, 2)) for level in range(num_levels)]  # none is like another
    pictures.usage(tmp_path / "usage.png", CODES[:, :num_levels], codebooks)
    picture = pixels(tmp_path / "usage.png")
    assert picture.shape == (size[1], size[0], 3)


def test_usage_falls(tmp_path):
    codes = np.repeat([0, 2, 3], [10, 80, 30])[:, None]
    pictures.usage(tmp_path / "usage.png", codes, [np.ones((4, 2))])
    bars = heights(pixels(tmp_path / "usage.png"), pictures._COLOUR)
    bars = bars[bars > 0]
    middle = [int(bars[len(bars) * part // 6]) for part in (1, 3, 5)]
    # A code that is dead has no bar; the dashed line at 30 hides a little of the others.
    expected = np.log([80, 30, 10]) - np.log(0.5)  # the scale is logarithmic, from .5
    np.testing.assert_allclose(np.array(middle) / middle[0], expected / expected[0], atol=0.02)


def test_a_collapsed_level_is_seen(tmp_path):
    pictures.usage(tmp_path / "usage.png", np.zeros((900, 1), int), [np.ones((512, 2))])
    bars = heights(pixels(tmp_path / "usage.png"), pictures._COLOUR)
    assert np.sum(bars > 300) >= 3  # of 500 pixels; the other codes are at the floor


def test_categories(tmp_path):
    pictures.categories(tmp_path / "categories.png", CODES[:, 0], LABELS)
    height, width, _ = pixels(tmp_path / "categories.png").shape
    assert width == 1950 and 300 < height < 600  # a row for each of three categories, and others
    many = [f"Category {n % 30}" for n in range(60)]
    pictures.categories(tmp_path / "categories.png", np.arange(60), many)
    assert 1000 < pixels(tmp_path / "categories.png").shape[0] < 1300  # 20 of them and others


@pytest.mark.parametrize("num_levels", [1, 2, 6])
def test_tree(tmp_path, num_levels):
    pictures.tree(
        tmp_path / "tree.png", CODES[:, :num_levels], TITLES, LABELS, np.arange(NUM_ITEMS)
    )
    height, width, _ = pixels(tmp_path / "tree.png").shape
    assert width == 2250
    num_leaves = {1: 4, 2: 12, 6: 24}[num_levels]
    assert height == pytest.approx(150 * (0.17 * (2.35 * num_leaves + 0.6 * 4) + 0.4), abs=1)


def test_a_timeline_has_a_row_for_each_scope_at_its_time(tmp_path):
    spans = [(0.0, 0.004, "level_0/distances"), (0.004, 0.008, "level_0/argmin")]
    pictures.timeline(tmp_path / "timeline.png", [*spans, (0.006, 0.008, "level_0/distances")])
    bars = heights(pixels(tmp_path / "timeline.png"), pictures._COLOUR)
    bars = bars[bars > 0]
    first, second, third = (int(bars[int(len(bars) * part)]) for part in (0.25, 0.6, 0.9))
    assert first == second and third >= 2 * first - 1  # both rows are busy at the end
