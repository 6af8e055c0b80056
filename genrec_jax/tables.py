"""Tables for people, from metrics.json, examples.json and report.json."""

import itertools
import re
from collections.abc import Iterable, Sequence

import rich.bar
import rich.box
import rich.console
import rich.markup
import rich.table

_NUMBERED = re.compile(r"((?:.+/)?\w+_\d+)/([^/]+)")
_NUM_GROUPS, _NUM_TITLES = 5, 3  # of the collisions
_NUM_ARRAYS = 20  # of a plan
_NUM_LATEST = 20  # of a history
_BAR_WIDTH = 40  # characters
_COLUMNS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")  # fit into 80 characters


def print_metrics(metrics: dict[str, float]) -> None:
    """Prints metrics, those that many things have in common in a table with a row for each.

    These are rankings, and what is told of numbered things, `.../level_0/NAME` and so on.
    """
    console = rich.console.Console()
    prefixes = _ranking_prefixes(metrics)
    if prefixes:
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        table.add_column("ranking", no_wrap=True)
        for name in _COLUMNS:
            table.add_column(name, justify="right")
        for prefix in prefixes:
            table.add_row(*_ranking_row(prefix, metrics))
        console.print(table)
    ranked = tuple(f"{prefix}/" for prefix in prefixes)
    rest = {key: value for key, value in metrics.items() if not key.startswith(ranked)}
    numbered = {key: value for key, value in rest.items() if _NUMBERED.fullmatch(key)}
    rest = {key: value for key, value in rest.items() if key not in numbered}
    for table in _tables_of_numbered(numbered):
        console.print(table)
    value_column = rich.table.Column("value", justify="right")
    table = rich.table.Table("metric", value_column, box=rich.box.SIMPLE_HEAD)
    for key, value in rest.items():
        table.add_row(key, _number(value))
    console.print(table)


def rankings(metrics: dict[str, float]) -> str:
    """Returns the table of the rankings as Markdown."""
    rows = [_ranking_row(prefix, metrics) for prefix in _ranking_prefixes(metrics)]
    return _markdown(("ranking", *_COLUMNS), rows)


def _ranking_prefixes(metrics: dict[str, float]) -> list[str]:
    return [key.removesuffix("/recall@10") for key in metrics if key.endswith("/recall@10")]


def _ranking_row(prefix: str, metrics: dict[str, float]) -> tuple[str, ...]:
    values = (metrics.get(f"{prefix}/{name}") for name in _COLUMNS)
    return (prefix, *("" if value is None else f"{value:.4f}" for value in values))


def print_plan(lines: Sequence) -> None:
    """Prints the largest arrays, a `plan.Line` each, and what all take together."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column("array", overflow="fold")
    for name in ("count", "shape", "type", "split", "MiB a device"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines[:_NUM_ARRAYS]:
        split = "" if line.split is None else f"axis {line.split}"
        shape = " x ".join(map(str, line.shape)) or "1"
        size = f"{line.bytes / 2**20:,.3f}"
        table.add_row(line.name, str(line.count), shape, line.dtype, split, size)
    rest = lines[_NUM_ARRAYS:]
    if rest:
        count, size = (sum(getattr(line, name) for line in rest) for name in ("count", "bytes"))
        table.add_row("all smaller ones", str(count), "", "", "", f"{size / 2**20:,.3f}")
    console = rich.console.Console()
    console.print(table)
    groups = {}
    for line in lines:
        group = line.name.partition("/")[0]
        groups[group] = groups.get(group, 0) + line.bytes
    parts = ", ".join(f"{name} {size / 2**30:,.3f}" for name, size in groups.items())
    total = f"{sum(groups.values()) / 2**30:,.3f} GiB a device: {parts}"
    console.print(total + ". What a step computes in between comes on top.", highlight=False)


def _tables_of_numbered(metrics: dict[str, float]) -> list[rich.table.Table]:
    """Returns a table for each kind of numbered thing, which has the same columns."""
    things: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        thing, name = _NUMBERED.fullmatch(key).groups()
        things.setdefault(thing, {})[name] = value
    tables: dict[tuple[str, ...], rich.table.Table] = {}
    for thing, values in things.items():
        kind = thing.rpartition("_")[0].rpartition("/")[2]
        table = tables.get((kind, *values))
        if table is None:
            table = tables[kind, *values] = rich.table.Table(box=rich.box.SIMPLE_HEAD)
            table.add_column(kind, no_wrap=True)
            for name in values:
                table.add_column(name, justify="right", overflow="fold")
        table.add_row(thing, *map(_number, values.values()))
    return list(tables.values())


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def print_collisions(groups: list[dict]) -> None:
    """Prints the groups of items with equal codes that report.json lists."""
    if not groups:
        return
    table = rich.table.Table(
        rich.table.Column("codes", no_wrap=True),
        rich.table.Column("items", justify="right"),
        rich.table.Column("texts", justify="right"),
        _title_column("first titles"),
        title="Items with equal codes, the largest groups first",
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
        expand=True,
    )
    for group in groups[:_NUM_GROUPS]:
        counts = _number(group["num_items"]), _number(group["num_texts"])
        codes = " ".join(map(str, group["codes"]))
        for number, title in enumerate(group["titles"][:_NUM_TITLES]):
            first = (codes, *counts) if number == 0 else ("", "", "")
            table.add_row(*first, rich.markup.escape(title))
    rich.console.Console().print(table)


def print_histograms(histograms: list[dict]) -> None:
    """Prints the histograms that report.json of an inspection lists, a bar for each bin."""
    for histogram in histograms:
        table = rich.table.Table(
            rich.table.Column(histogram["name"], justify="right"),
            rich.table.Column(histogram["of"], justify="right"),
            "",
            box=rich.box.SIMPLE_HEAD,
        )
        largest = max(row["count"] for row in histogram["bins"])
        for row in histogram["bins"]:
            first, last = row["first"], row["last"]
            name = f"{first:,}" if first == last else f"{first:,}\N{EN DASH}{last:,}"
            bar = rich.bar.Bar(largest, 0, row["count"], width=_BAR_WIDTH)
            table.add_row(name, _number(row["count"]), bar)
        rich.console.Console().print(table)


def print_problems(problems: list[dict]) -> None:
    """Prints a line for each problem that report.json of an inspection lists and there is."""
    for problem in problems:
        if problem["count"]:
            such_as = f" (such as {', '.join(problem['examples'])})" if problem["examples"] else ""
            print(f"problem: {problem['what']}: {_number(problem['count'])}{such_as}")


def print_profile(cases: list[dict]) -> None:
    """Prints where the time goes of the cases that report.json of a profile lists."""
    if not cases:
        return
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("case and scope", no_wrap=True)
    for name in PROFILE_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for case in cases:
        table.add_row(case["case"], *profile_row(case, case), style="bold")
        for scope in case["scopes"]:
            table.add_row(f"  {scope['scope'] or '(none)'}", *profile_row(scope, case))
        table.add_section()
    rich.console.Console(highlight=False).print(table)


# Fit into 80 characters.
PROFILE_COLUMNS = ("ms", "share", "kernels", "GFLOP", "MB", "floor")


def profile_row(row: dict, case: dict) -> tuple[str, ...]:
    """Returns the texts of the columns for a case, or for one of its scopes."""
    traced = sum(scope["seconds"] for scope in case["scopes"])
    return (
        three_digits(row["seconds"] * 1e3),
        "" if row is case else f"{row['seconds'] / traced:.1%}",
        f"{row['num_kernels']:,}",
        three_digits(sum(row["flops"].values()) / 1e9),
        three_digits(row["bytes"] / 1e6),
        f"{row['share_of_floor']:.1%}",
    )


def three_digits(value: float) -> str:
    """Returns a number in three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def profile(report: dict) -> str:
    """Returns the report.json of a profile as Markdown."""
    ceilings = dict(report["ceilings"])
    copy = ceilings.pop("copy")
    products = ", ".join(f"{name} {rate / 1e12:,.3g}" for name, rate in ceilings.items())
    lines = [
        f"# Quantising on {report['device']}, jax {report['jax']}",
        "",
        f"Ceilings: {products} TFLOP/s; copy {copy / 1e9:,.3g} GB/s.",
        "",
        "![roofline](roofline.png)",
        "",
        "![time by scope](time.png)",
    ]
    for case in report["cases"]:
        header = ("scope", *PROFILE_COLUMNS)
        rows = [("**all**", *profile_row(case, case))]
        rows += [(row["scope"] or "(none)", *profile_row(row, case)) for row in case["scopes"]]
        fusions, memory, cost = (
            case[key] for key in ("fusions", "memory_analysis", "cost_analysis")
        )
        lines += [
            "",
            f"## {case['case']}",
            "",
            _markdown(header, rows),
            "",
            f"{fusions['num_kernels']} instructions run by themselves: "
            + ", ".join(f"{count} {kind}" for kind, count in fusions["kinds"].items())
            + ".",
            "Custom calls: "
            + (
                ", ".join(f"{n} {target}" for target, n in fusions["custom_calls"].items())
                or "none"
            )
            + ".",
            "XLA's own count: "
            f"{cost.get('flops', 0) / 1e9:,.3g} GFLOP, with those that are no products, and "
            f"{cost.get('bytes accessed', 0) / 1e6:,.3g} MB.",
            f"Memory: {memory['argument_size_in_bytes'] / 1e6:,.3g} MB of arguments, "
            f"{memory['output_size_in_bytes'] / 1e6:,.3g} of results, "
            f"{memory['temp_size_in_bytes'] / 1e6:,.3g} between them.",
            "",
            _markdown(
                ("largest by traffic", "kind", "scopes", "fused", "MB"),
                [
                    (
                        kernel["name"],
                        kernel["kind"],
                        ", ".join(kernel["scopes"]),
                        str(kernel["num_instructions"]),
                        f"{kernel['bytes'] / 1e6:,.3g}",
                    )
                    for kernel in fusions["largest"]
                ],
            ),
        ]
    return "\n".join(lines) + "\n"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_examples(examples: list[dict]) -> None:
    """Prints what is recommended to a few users, beside the ends of their histories.

    A mark is before what has the title of the user's next item.
    """
    console = rich.console.Console()
    for example in examples:
        next_item = f", whose next item was: {example['target']}" if "target" in example else ""
        table = rich.table.Table(
            _title_column("history, latest last"),
            _title_column("recommended, best first"),
            title=rich.markup.escape(f"User {example['user_id']}{next_item}"),
            title_justify="left",
            box=rich.box.SIMPLE_HEAD,
            expand=True,
        )
        history, target = example["history"], example.get("target")
        recommended = [f"✓ {t}" if t == target else t for t in example["recommended"]]
        num_before = max(len(history) - _NUM_LATEST, 0)
        history = [f"({num_before} before)"] * bool(num_before) + history[num_before:]
        for row in itertools.zip_longest(history, recommended, fillvalue=""):
            table.add_row(*map(rich.markup.escape, row))
        console.print(table)


def _title_column(header: str) -> rich.table.Column:
    return rich.table.Column(header, no_wrap=True, overflow="ellipsis", ratio=1)
