"""Charts of a run's page, as SVG pictures whose letters are text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import figure, ticker

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "genrec_jax",  # names of parts would be random
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_COLOURS = ("#2c5f8a", "#c4532d", "#2f7d4f", "#9a6fb0", "#b58a1f", "#5b6875", "#3fa7b5", "#1d2733")
_SIZE = (4.6, 3.0)  # inches
_MOST_POINTS = 30  # that are marked
_MOST_ABREAST = 6  # names of groups
_SLANTED = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}


# x and y by name.
Series = dict[str, tuple[Sequence[float], Sequence[float]]]


class Intervals(NamedTuple):
    """Means and between what they lie, of several groups; each field is [G]."""

    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@matplotlib.rc_context(_STYLE)
def curves(series: Series, *, x: str, is_share: bool = False) -> str:
    """Draws lines, with points where they are few; `is_share` of what is drawn as per cent."""
    drawing, axis = _empty()
    for place, (name, (xs, ys)) in enumerate(series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        marker = "o" if len(xs) <= _MOST_POINTS else ""
        axis.plot(xs, ys, marker=marker, markersize=3, color=colour, label=name)
    axis.set_xlabel(x)
    if is_share:
        axis.yaxis.set_major_formatter(ticker.PercentFormatter(1))
    axis.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    _name(drawing, series)
    return _svg(drawing)


@matplotlib.rc_context(_STYLE)
def groups(
    names: Sequence[str], sizes: Sequence[int], series: Mapping[str, Intervals], *, x: str, y: str
) -> str:
    """Draws means with intervals over groups [G] of so many users, a line for each of `series`."""
    drawing, axis = _empty()
    for place, (name, values) in enumerate(series.items()):
        at = np.arange(len(names)) + 0.08 * (place - (len(series) - 1) / 2)  # side by side
        colour = _COLOURS[place % len(_COLOURS)]
        axis.vlines(at, values.low, values.high, color=colour, linewidth=1)
        axis.plot(at, values.mean, "o-", markersize=3, linewidth=1.2, color=colour, label=name)
    many = len(names) > _MOST_ABREAST
    gap = " " if many else "\n"
    named = [f"{name}{gap}({size:,})" for name, size in zip(names, sizes, strict=True)]
    axis.set_xticks(range(len(names)), named, **_SLANTED if many else {})
    axis.set_ylim(0)
    axis.yaxis.set_major_formatter(ticker.PercentFormatter(1))
    axis.set_xlabel(f"{x} (in brackets: users)")
    axis.set_ylabel(y)
    _name(drawing, series)
    return _svg(drawing)


@matplotlib.rc_context(_STYLE)
def shares(names: Sequence[str], series: Mapping[str, Sequence[float]], *, x: str) -> str:
    """Draws shares of groups as bars side by side, a colour for each name of `series`."""
    drawing, axis = _empty()
    width = 0.8 / len(series)
    for place, (name, values) in enumerate(series.items()):
        at = np.arange(len(names)) + width * (place - (len(series) - 1) / 2)
        bars = axis.bar(at, values, 0.92 * width, color=_COLOURS[place], label=name)
        axis.bar_label(bars, [f"{value:.0%}" for value in values], fontsize=7)
    axis.set_xticks(range(len(names)), names)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(ticker.PercentFormatter(1))
    axis.set_xlabel(x)
    _name(drawing, series)
    return _svg(drawing)


@matplotlib.rc_context(_STYLE)
def histogram(bins: Sequence[Mapping[str, int]], *, x: str, y: str) -> str:
    """Draws bins, see `data.inspection.histogram`."""
    drawing, axis = _empty()
    axis.bar(range(len(bins)), [one["count"] for one in bins], 0.92, color=_COLOURS[0])
    slant = _SLANTED if len(bins) > _MOST_ABREAST else {}
    axis.set_xticks(range(len(bins)), map(span, bins), **slant)
    axis.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    return _svg(drawing)


def span(one: Mapping[str, int]) -> str:
    """Returns the name of a bin."""
    first, last = one["first"], one["last"]
    return f"{first:,}" if first == last else f"{first:,}–{last:,}"  # noqa: RUF001


def _name(drawing: figure.Figure, series: Mapping[str, Any]) -> None:
    """Names what is drawn above the picture, where it hides nothing, if there are several."""
    if len(series) > 1:
        drawing.legend(loc="outside upper center", ncols=3)


def _empty():
    drawing = figure.Figure(_SIZE, layout="constrained")
    return drawing, drawing.subplots()


def _svg(drawing: figure.Figure) -> str:
    file = io.StringIO()
    drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()
