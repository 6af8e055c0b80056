"""Tables for people, from metrics.json and examples.json."""

import itertools

import rich.box
import rich.console
import rich.markup
import rich.table

_COLUMNS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")  # fit into 80 characters


def print_metrics(metrics: dict[str, float]) -> None:
    """Prints rankings as a table of their own, and all other metrics below."""
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
    value_column = rich.table.Column("value", justify="right")
    table = rich.table.Table("metric", value_column, box=rich.box.SIMPLE_HEAD)
    for key, value in rest.items():
        table.add_row(key, f"{value:,}" if isinstance(value, int) else f"{value:.5g}")
    console.print(table)


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
