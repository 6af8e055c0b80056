"""Tables for people, from metrics.json, examples.json and report.json."""

import itertools
import re

import rich.box
import rich.console
import rich.markup
import rich.table

_NUMBERED = re.compile(r"((?:.+/)?\w+_\d+)/([^/]+)")
_NUM_GROUPS, _NUM_TITLES = 5, 3  # of the collisions
_COLUMNS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")  # fit into 80 characters


def print_metrics(metrics: dict[str, float]) -> None:
    """Prints metrics, those that many things have in common in a table with a row for each.

    These are rankings, and what is told of numbered things, `.../level_0/NAME` and so on.
    """
    console = rich.console.Console()
    prefixes = [key.removesuffix("/recall@10") for key in metrics if key.endswith("/recall@10")]
    if prefixes:
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        table.add_column("ranking", no_wrap=True)
        for name in _COLUMNS:
            table.add_column(name, justify="right")
        for prefix in prefixes:
            values = (metrics.get(f"{prefix}/{name}") for name in _COLUMNS)
            table.add_row(prefix, *("" if v is None else f"{v:.4f}" for v in values))
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


def print_examples(examples: list[dict]) -> None:
    """Prints what is recommended to a few users, beside their histories."""
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
        sides = example["history"], example["recommended"]
        for row in itertools.zip_longest(*sides, fillvalue=""):
            table.add_row(*map(rich.markup.escape, row))
        console.print(table)


def _title_column(header: str) -> rich.table.Column:
    return rich.table.Column(header, no_wrap=True, overflow="ellipsis", ratio=1)
