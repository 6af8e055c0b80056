"""Pictures of semantic IDs and of profiles, as PNG files.

They are drawn without pyplot, so no display is needed and nothing global is changed.
"""

import functools
import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, figure, lines, ticker
from matplotlib.patches import Patch

from genrec_jax import errors, files, tables
from genrec_jax.evaluators import semantic_ids as evaluator
from genrec_jax.evaluators.semantic_ids import Branch
from genrec_jax.quantizers import health

_DPI = 150
_MAX_COLUMNS = 4  # of panels side by side
_FLOOR = 0.5  # of a logarithmic scale, so that a code with one item is seen
_NUM_CATEGORIES = 20
_BRANCHES = (4, 3, 2)  # of the tree, level by level
_NUM_TITLES, _TITLE_WIDTH = 2, 72  # of each of its leaves
_COLOUR, _ACCENT, _FAINT = "#2c5f8a", "#c4532d", "#9aa5b1"


def usage(path: str | os.PathLike, codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> None:
    """Draws for each level how many items have each code, falling, by a logarithmic scale.

    Args:
        codes: [I, Q].
        codebooks: one array [K, C] a level, of which K may differ.
    """
    num_columns = min(len(codebooks), _MAX_COLUMNS)
    num_rows = -(-len(codebooks) // num_columns)
    drawing = figure.Figure((4.2 * num_columns, 3.4 * num_rows), layout="constrained")
    axes = drawing.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    for level, (codebook, axis) in enumerate(zip(codebooks, axes.flat, strict=False)):
        size = len(codebook)
        counts = np.bincount(codes[:, level], minlength=size)
        falling = np.sort(counts)[::-1]
        axis.stairs(
            falling,
            np.arange(size + 1),
            baseline=_FLOOR,
            fill=True,
            color=_COLOUR,
            edgecolor=_COLOUR,  # of 2 points, so that a single code of many is seen
            linewidth=2,
        )
        axis.axhline(len(codes) / size, color=_ACCENT, linestyle="--", linewidth=1)
        values = health.level_report(codes[:, level], codebook)
        axis.set_title(
            f"level {level}: {values['dead_codes']:,} of {size:,} codes dead\n"
            f"perplexity {values['perplexity']:,.0f}, Gini {values['gini']:.2f}",
            fontsize=10,
        )
        axis.set_xlim(-0.01 * size, size)
        axis.set_yscale("log")
        axis.set_ylim(_FLOOR)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(codebooks) :]:
        axis.remove()
    axes[0, 0].annotate(
        "if all were equal",
        (len(codebooks[0]), len(codes) / len(codebooks[0])),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color=_ACCENT,
        fontsize=9,
    )
    drawing.supxlabel("codes, the most common first", fontsize=10)
    drawing.supylabel("items", fontsize=10)
    _save(drawing, path)


def categories(path: str | os.PathLike, codes: np.ndarray, labels: Sequence[str | None]) -> None:
    """Draws which categories the items of each first code [I] have.

    Args:
        labels: see `evaluators.semantic_ids.category_labels`.
    """
    table = evaluator.category_table(codes, labels, _NUM_CATEGORIES)
    per_code, per_category = table.counts.sum(axis=0), table.counts.sum(axis=1)
    height = 1.9 + 0.27 * len(table.labels)
    drawing = figure.Figure((13, height), layout="constrained")
    top, main = drawing.subplots(2, 1, sharex=True, height_ratios=[0.8, 0.27 * len(table.labels)])
    edges = np.arange(len(table.codes) + 1)
    top.stairs(per_code, edges, fill=True, color=_COLOUR)
    top.set_ylabel("items", fontsize=9)
    top.spines[["top", "right"]].set_visible(False)
    top.tick_params(bottom=False, labelsize=8)
    mesh = main.pcolormesh(
        edges,
        np.arange(len(table.labels) + 1),
        table.counts / per_code,
        cmap="Blues",
        vmin=0,
        vmax=1,
        rasterized=True,
    )
    main.invert_yaxis()
    named = zip(table.labels, per_category, strict=True)
    main.set_yticks(
        np.arange(len(table.labels)) + 0.5,
        [f"{_short(label, 44)}  ({count:,})" for label, count in named],
        fontsize=9,
        parse_math=False,
    )
    main.hlines(np.arange(1, len(table.labels)), 0, len(edges) - 1, color=_FAINT, linewidth=0.3)
    main.tick_params(left=False, bottom=False, labelbottom=False)
    main.set_xlabel(f"{len(table.codes):,} first codes, by their most common category", fontsize=10)
    bar = drawing.colorbar(mesh, ax=[top, main], fraction=0.02, pad=0.01, aspect=40)
    bar.set_label("share of the code's items", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _save(drawing, path)


def tree(
    path: str | os.PathLike,
    codes: np.ndarray,
    titles: Sequence[str],
    labels: Sequence[str | None],
    popularity: np.ndarray,
) -> None:
    """Draws the largest branches of the tree of prefixes, with titles at their ends.

    Args:
        codes: [I, Q].
        titles: of the items.
        labels: see `evaluators.semantic_ids.category_labels`.
        popularity: [I], by which the titles of a branch are chosen.
    """
    branches = evaluator.largest_branches(codes, _BRANCHES[: codes.shape[1]])
    num_levels = min(codes.shape[1], len(_BRANCHES))
    drawing = figure.Figure((15, 1), layout="constrained")
    axis = drawing.subplots()
    axis.set_axis_off()
    row = 0.0

    def text(x, y, words):
        axis.text(x, y, words, va="center", fontsize=8, parse_math=False)

    def draw(branch: Branch, prefix: str, level: int) -> float:
        """Draws a branch with all below it, and returns where it stands."""
        nonlocal row
        prefix = f"{prefix} {branch.code}".strip()
        if branch.branches:
            ys = [draw(below, prefix, level + 1) for below in branch.branches]
        else:
            popular = branch.items[np.argsort(-popularity[branch.items], kind="stable")]
            shown = popular[:_NUM_TITLES]
            ys = [row + (_NUM_TITLES - len(shown)) / 2 + place for place in range(len(shown))]
            for y, item in zip(ys, shown, strict=True):
                text(num_levels, y, _short(titles[item], _TITLE_WIDTH))
            row += _NUM_TITLES + 0.35
        y = (ys[0] + ys[-1]) / 2
        for below in ys:
            _connect(axis, level + 0.62, y, level + 0.98, below)
        text(level, y, _node(branch, prefix, labels))
        return y

    for branch in branches:
        draw(branch, "", 0)
        row += 0.6
    axis.set_xlim(-0.05, num_levels + 1.6)
    axis.set_ylim(row, -1)
    drawing.set_figheight(0.17 * row + 0.4)
    _save(drawing, path)


def roofline(path: str | os.PathLike, report: dict) -> None:
    """Draws the scopes that have products below the device's ceilings, a panel for each mode.

    Bytes of a scope are those that its instructions move, of all together the least.

    Args:
        path: of the picture.
        report: of `tasks.profile_quantize`. Levels are drawn together.
    """
    modes = list(dict.fromkeys(case["mode"] for case in report["cases"]))
    drawing = figure.Figure((4.6 * len(modes) + 2.2, 4.6), layout="constrained")
    panels = drawing.subplots(1, len(modes), sharey=True, squeeze=False)[0]
    colours = _scope_colours(report["cases"])
    ceilings = dict(report["ceilings"])
    copy = ceilings.pop("copy")
    sizes = list(dict.fromkeys(_sizes(case) for case in report["cases"]))
    markers = dict(zip(sizes, itertools.cycle("os^DvP*X<>hd"), strict=False))
    shown = {"all": "black"}
    intensities, rates = [max(ceilings.values()) / copy], [max(ceilings.values())]
    for mode, panel in zip(modes, panels, strict=True):
        for case in (case for case in report["cases"] if case["mode"] == mode):
            whole = case | {"flops": sum(case["flops"].values())}
            for scope, row in ({"all": whole} | _merged(case)).items():
                if row["flops"] and row["seconds"]:
                    intensities.append(row["flops"] / row["bytes"])
                    rates.append(row["flops"] / row["seconds"])
                    shown.setdefault(scope, colours.get(scope))
                    style = {"color": shown[scope], "marker": markers[_sizes(case)]}
                    point = intensities[-1], rates[-1]
                    panel.plot(*point, markersize=8, markeredgecolor="white", **style)
        panel.set_title(mode, fontsize=10)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("FLOP a byte", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    low, high = min(intensities) / 3, max(intensities) * 3
    for panel in panels:
        for (name, rate), line in zip(ceilings.items(), (":", "--", "-"), strict=True):
            x = np.geomspace(low, high, 200)
            label = f"ceiling of {name}"
            panel.plot(x, np.minimum(x * copy, rate), line, color=_FAINT, linewidth=1, label=label)
        panel.set_xlim(low, high)
        panel.set_ylim(min(rates) / 3, max(rates) * 3)
    panels[0].set_ylabel("FLOP a second", fontsize=9)
    dot = functools.partial(lines.Line2D, [], [], linestyle="")
    rows = [dot(marker="o", color=colour, label=scope) for scope, colour in sorted(shown.items())]
    rows += [dot(marker=markers[size], color=_FAINT, label=size) for size in sizes]
    rows += panels[0].get_legend_handles_labels()[0]
    drawing.legend(handles=rows, loc="outside right upper", fontsize=8, frameon=False)
    _save(drawing, path)


def time_by_scope(path: str | os.PathLike, report: dict) -> None:
    """Draws which share of the time of each case its scopes have.

    Args:
        path: of the picture.
        report: of `tasks.profile_quantize`. Levels are drawn together.
    """
    cases = report["cases"]
    colours = _scope_colours(cases)
    height = max(0.42 * len(cases) + 0.9, 0.19 * len(colours) + 0.6)
    drawing = figure.Figure((10, height), layout="constrained")
    axis = drawing.subplots()
    for y, case in enumerate(cases):
        merged = _merged(case)
        total, left = sum(row["seconds"] for row in merged.values()), 0.0
        for scope in colours:
            share = merged[scope]["seconds"] / total if scope in merged else 0.0
            axis.barh(y, share, left=left, color=colours[scope], edgecolor="white", linewidth=0.5)
            if share > 0.06:
                at = left + share / 2
                axis.text(at, y, f"{share:.0%}", ha="center", va="center", fontsize=8)
            left += share
    names = [f"{case['case']}\n{tables.three_digits(case['seconds'] * 1e3)} ms" for case in cases]
    axis.set_yticks(range(len(cases)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter(ticker.PercentFormatter(1))
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel("share of the traced time", fontsize=9)
    axis.spines[["top", "right", "left"]].set_visible(False)
    patches = [Patch(color=colour, label=scope) for scope, colour in colours.items()]
    drawing.legend(handles=patches, loc="outside right upper", fontsize=8, frameon=False)
    _save(drawing, path)


def timeline(path: str | os.PathLike, spans: Sequence[tuple[float, float, str]]) -> None:
    """Draws when each scope ran, a row for each, in the order of their starts.

    Args:
        path: of the picture.
        spans: start and end in seconds, and scope.
    """
    scopes = list(dict.fromkeys(scope for *_, scope in sorted(spans)))
    drawing = figure.Figure((10, 0.25 * len(scopes) + 0.9), layout="constrained")
    axis = drawing.subplots()
    for y, scope in enumerate(scopes):
        bars = [(a * 1e3, (b - a) * 1e3) for a, b, own in spans if own == scope]
        axis.broken_barh(bars, (y - 0.4, 0.8), color=_COLOUR, linewidth=0.6)
    axis.set_yticks(range(len(scopes)), [scope or "(none)" for scope in scopes], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("ms since the call's first instruction", fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", color=_FAINT, linewidth=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    _save(drawing, path)


def _sizes(case: dict) -> str:
    return case["case"].removeprefix(f"{case['mode']}-")


def _merged(case: dict) -> dict[str, dict[str, float]]:
    """Returns seconds, flops and bytes of a case's scopes, of all levels together."""
    merged: dict[str, dict[str, float]] = {}
    for row in case["scopes"]:
        scope = re.sub(r"^level_\d+/?", "", row["scope"]).strip() or "other"
        sums = merged.setdefault(scope, {"seconds": 0.0, "flops": 0, "bytes": 0})
        sums["seconds"] += row["seconds"]
        sums["flops"] += sum(row["flops"].values())
        sums["bytes"] += row["bytes"]
    return merged


def _scope_colours(cases: Sequence[dict]) -> dict[str, Any]:
    """Returns a colour for each scope, lighter for the gradients of a scope."""
    scopes = sorted({scope for case in cases for scope in _merged(case)})
    names = list(dict.fromkeys(scope.removesuffix(" (backward)") for scope in scopes))
    pairs = colormaps["tab20"].colors
    return {
        scope: pairs[
            (2 * names.index(scope.removesuffix(" (backward)")) + (scope not in names)) % len(pairs)
        ]
        for scope in scopes
    }


def _node(branch: Branch, prefix: str, labels: Sequence[str | None]) -> str:
    found = Counter(labels[item] for item in branch.items if labels[item] is not None)
    num_items = len(branch.items)
    text = f"{prefix}  ({num_items:,} item{'s' * (num_items > 1)})"
    for label, count in found.most_common(1):
        text += f"\n{count / num_items:.0%} {_short(label, 28)}"
    return text


def _connect(axis, x, y, x_to, y_to) -> None:
    """Draws a smooth line from a node to one on its right."""
    t = np.linspace(0, 1, 30)
    axis.plot(x + (x_to - x) * t, y + (y_to - y) * (3 - 2 * t) * t**2, color=_FAINT, linewidth=0.8)


def _short(text: str, width: int) -> str:
    text = errors.one_line(text)
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def _save(drawing: figure.Figure, path: str | os.PathLike) -> None:
    with files.replacing(path) as partial:
        drawing.savefig(partial, format="png", dpi=_DPI)
