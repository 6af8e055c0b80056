"""One sentence for each item, by a versioned template."""

from collections.abc import Iterable

TEMPLATE_VERSION = "title-brand-categories-price-description/2"


def sentence(item: dict) -> str:
    """Returns the text that an embedder reads for one item record.

    Args:
        item: an item record (see records.py). Its own `text`, if it has one, is returned as is.
    """
    if item.get("text"):
        return item["text"]
    names = [name for path in item.get("categories", ()) for name in path]
    fields = {
        "title": item.get("title", ""),
        "brand": item.get("brand", ""),
        "categories": join_names(names),
        "price": item.get("price", ""),
        "description": item.get("description", ""),
    }
    return join_fields(fields)


def join_fields(fields: dict[str, str]) -> str:
    """Returns "Name: value; Name: value; ..." of the fields that are not empty."""
    return "; ".join(
        f"{name[:1].upper()}{name[1:]}: {value}" for name, value in fields.items() if value
    )


def join_names(names: Iterable[str]) -> str:
    """Returns the names with commas between them, each once, in order."""
    return ", ".join(dict.fromkeys(names))
