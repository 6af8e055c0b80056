"""Draws the pictures of docs/concepts.md: python docs/images/concepts.py."""

import pathlib

import numpy as np
from matplotlib import figure, rcParams

FOLDER = pathlib.Path(__file__).parent
COLOURS = ["#00796b", "#ef6c00", "#5e35b1", "#c62828"]
GREY = "#888888"
rcParams["svg.hashsalt"] = "concepts"  # so that the same picture is the same file


def kmeans(points: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns codewords and each point's code."""
    codewords = start.copy()
    for _ in range(30):
        codes = ((points[:, None] - codewords) ** 2).sum(-1).argmin(1)
        codewords = np.stack([points[codes == code].mean(0) for code in range(len(codewords))])
    return codewords, codes


def residual() -> figure.Figure:
    """Two levels of four codewords for points of the plane."""
    rng = np.random.default_rng(3)
    middles = np.array([[-2.0, 1.3], [2.0, 1.7], [-1.7, -1.6], [1.9, -1.5]])
    inner = np.array([[-0.6, 0.5], [0.6, 0.6], [-0.5, -0.6], [0.6, -0.5]])
    points = np.concatenate(
        [a + b + 0.13 * rng.standard_normal((9, 2)) for a in middles for b in inner]
    )
    first, codes = kmeans(points, middles)
    left = points - first[codes]
    second, inner_codes = kmeans(left, inner)
    drawing = figure.Figure((10.5, 3.7), layout="constrained")
    axes = drawing.subplots(1, 3)
    titles = (
        "level 0: the nearest of four codewords",
        "what is left over, level 1: again four",
        "one item: its ID is (1, 2)",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_aspect("equal")
        axis.spines[:].set_color("#cccccc")
    for axis, where, which, words in (
        (axes[0], points, codes, first),
        (axes[1], left, inner_codes, second),
    ):
        axis.scatter(*where.T, s=12, c=[COLOURS[code] for code in which], alpha=0.6)
        for code, word in enumerate(words):
            axis.scatter(*word, s=170, marker="s", color=COLOURS[code], edgecolor="white")
            axis.annotate(str(code), word, color="white", ha="center", va="center", weight="bold")
    chosen = np.flatnonzero((codes == 1) & (inner_codes == 2))[0]
    axis, end = axes[2], first[1] + second[2]
    axis.scatter(*points.T, s=12, color="#cccccc")
    origin = np.zeros(2)
    for start, stop, colour, text in (
        (origin, first[1], COLOURS[1], "codeword 1\nof level 0"),
        (first[1], end, COLOURS[2], "codeword 2\nof level 1"),
    ):
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2}
        axis.annotate("", stop, start, arrowprops=arrow)
        middle = (start + stop) / 2
        aside = np.array([0.75, -0.45]) if colour == COLOURS[1] else np.array([0.62, -0.3])
        axis.annotate(text, middle + aside, color=colour, ha="center", va="center", fontsize=9)
    axis.scatter(*points[chosen], s=60, color="black", zorder=3)
    axis.annotate("the item", points[chosen] + [-0.6, 0.0], ha="center", va="center", fontsize=9)
    axis.set_xlim(-0.3, 3.3)
    axis.set_ylim(-0.5, 3.1)
    return drawing


def beam() -> figure.Figure:
    """A tree of codes with the probabilities of a beam of two."""
    drawing = figure.Figure((9, 3.9), layout="constrained")
    axis = drawing.subplots()
    axis.set_axis_off()
    # code, place, parent's place, probability, whether the beam keeps it, what it is
    levels = [
        [("1", 2.0, 5.0, 0.6, True), ("2", 5.0, 5.0, 0.1, False), ("3", 8.0, 5.0, 0.3, True)],
        [
            ("0", 1.0, 2.0, 0.5, True),
            ("2", 3.0, 2.0, 0.1, False),
            ("1", 7.0, 8.0, 0.25, True),
            ("3", 9.0, 8.0, 0.05, False),
        ],
        [
            ("0", 0.4, 1.0, 0.2, False),
            ("3", 1.8, 1.0, 0.3, True),
            ("1", 6.4, 7.0, 0.22, True),
            ("2", 7.8, 7.0, 0.03, False),
        ],
    ]
    names = {0.4: "frying pan", 1.8: "saucepan", 6.4: "kettle", 7.8: "teapot"}
    for depth, nodes in enumerate(levels):
        for code, x, parent, chance, is_kept in nodes:
            colour = COLOURS[0] if is_kept else GREY
            y, above = -depth - 1, -depth
            axis.plot([parent, x], [above, y], color=colour, linewidth=1 + 6 * chance, zorder=1)
            axis.scatter(x, y, s=420, color=colour, zorder=2)
            axis.annotate(code, (x, y), color="white", ha="center", va="center", weight="bold")
            axis.annotate(f"{chance:.2f}", (x + 0.3, y), va="center", fontsize=9, color=colour)
            if depth == 2:
                axis.annotate(names[x], (x, y - 0.36), ha="center", fontsize=9, color=colour)
        axis.annotate(f"level {depth}", (10.2, -depth - 1), va="center", fontsize=10)
    axis.scatter(5, 0, s=420, color="black", zorder=2)
    axis.annotate("the history", (5.3, 0.02), va="center", fontsize=10)
    axis.set_xlim(-0.3, 11.2)
    axis.set_ylim(-3.6, 0.4)
    return drawing


if __name__ == "__main__":
    for name, draw in (("residual", residual), ("beam", beam)):
        draw().savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
