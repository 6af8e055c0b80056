"""One sentence for each item, by a versioned template."""

TEMPLATE_VERSION = "title-brand-categories/1"


def sentence(item: dict) -> str:
    """Returns the text that an embedder reads for one item record.

    Args:
        item: an item record (see records.py). Its own `text`, if it has one, is returned as is.
    """
    if item.get("text"):
        return item["text"]
    names = [name for path in item.get("categories", ()) for name in path]
    fields = {
        "Title": item.get("title", ""),
        "Brand": item.get("brand", ""),
        "Categories": ", ".join(dict.fromkeys(names)),  # each name once, in order
    }
    return "; ".join(f"{name}: {value}" for name, value in fields.items() if value)
