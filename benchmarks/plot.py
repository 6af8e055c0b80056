"""Draws the rates of benchmarks over commits, from their JSON.

    python -m benchmarks.plot FILE_OR_FOLDER ... --output=FILE.png

A panel is of one benchmark on one kind of device, with `--smoke` or without, a line of one case.
Commits are in the order of their first measurement; `*` says that files differed from the commit. A
folder may hold other JSON.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

from absl import app, flags
from matplotlib import figure

from benchmarks import common
from genrec_jax import files
from genrec_jax.errors import UserError, exit_on_error

_DPI = 150
_COLOURS = ("#2c5f8a", "#c4532d", "#4c8c4a", "#8a5aa8", "#b8902f", "#3f9a9a", "#9c3b5e", "#6b6b6b")
_MARKERS = "os^Dv"  # when the colours are used up

Panels = dict[tuple[str, str], dict[str, dict[str, float]]]


def load(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the reports in the files and below the folders, the oldest first.

    Raises:
        UserError: if a path is missing, or a file that was named is no report with cases.
    """
    reports = []
    for path in map(pathlib.Path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist")
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            report = _read(file)
            if report is not None:
                reports.append(report)
            elif file == path:
                raise UserError(f"{path} is no report of a benchmark with cases")
    return sorted(reports, key=lambda report: report["date"])


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        report = files.read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    is_report = (
        isinstance(report, dict) and {"benchmark", "smoke", "date", "cases"} <= report.keys()
    )
    return report if is_report else None


def commits(reports: list[dict[str, Any]]) -> list[str]:
    """Returns the commits of reports that are in the order of time, each once."""
    return list(dict.fromkeys(report["commit"] for report in reports))


def panels(reports: list[dict[str, Any]]) -> Panels:
    """Returns rates by benchmark and device, then by case with its unit, then by commit.

    Small shapes are a benchmark of their own. Of several measurements at a commit the last one
    counts.
    """
    found: Panels = {}
    for report in reports:
        benchmark = report["benchmark"] + (" --smoke" if report["smoke"] else "")
        lines = found.setdefault((benchmark, report["device"]), {})
        for case in report["cases"]:
            line = lines.setdefault(f"{case['case']} ({case['unit']})", {})
            line[report["commit"]] = case["rate"]
    return found


def draw(path: str, reports: list[dict[str, Any]]) -> None:
    """Writes the picture as a PNG file."""
    order = commits(reports)
    dates = {report["commit"]: report["date"][:10] for report in reversed(reports)}
    shown = sorted(panels(reports).items())
    width = 6.5 + 0.45 * len(order)
    heights = [max(2.6, 0.9 + 0.19 * len(lines)) for _, lines in shown]
    drawing = figure.Figure((width, sum(heights) + 0.6 * len(heights)), layout="constrained")
    axes = drawing.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, ((benchmark, device), lines) in zip(axes, shown, strict=True):
        _draw_panel(axis, lines, order)
        axis.set_title(f"{benchmark} on {device}", loc="left", fontsize=10)
        labels = [f"{_label(commit)}\n{dates[commit]}" for commit in order]
        axis.set_xticks(range(len(order)), labels, fontsize=7, rotation=60)
    with files.replacing(path) as partial:
        drawing.savefig(partial, format="png", dpi=_DPI)


def _draw_panel(axis, lines: dict[str, dict[str, float]], order: list[str]) -> None:
    """Draws the lines, named beside the panel from the highest to the lowest."""

    def last(name):
        return list(lines[name].values())[-1]

    for number, name in enumerate(sorted(lines, key=last, reverse=True)):
        places = sorted(order.index(commit) for commit in lines[name])
        axis.plot(
            places,
            [lines[name][order[place]] for place in places],
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
            markersize=4,
            linewidth=1.2,
            label=f"{name}: {common.short(last(name))}",
        )
    axis.set_yscale("log")
    axis.set_xlim(-0.5, len(order) - 0.5)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", which="both", labelsize=8)
    axis.set_ylabel("a second", fontsize=9)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7.5, frameon=False)


def _label(commit: str) -> str:
    return commit.removesuffix("-dirty")[:7] + ("*" if commit.endswith("-dirty") else "")


def main(argv: list[str]) -> None:
    output = flags.FLAGS.output
    if output is None or len(argv) < 2:
        raise UserError("give files or folders with JSON of benchmarks, and --output=FILE.png")
    common.check_writable(output)
    reports = load(argv[1:])
    if not reports:
        raise UserError(f"no report of a benchmark with cases in {', '.join(argv[1:])}")
    draw(output, reports)
    print(f"{len(reports)} reports of {len(commits(reports))} commits are in {output}")


if __name__ == "__main__":
    app.run(exit_on_error(main), flags_parser=exit_on_error(common.parse_flags))
