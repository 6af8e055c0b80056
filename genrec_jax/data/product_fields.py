"""Products as the Amazon review data sets describe them, to item records.

The editions differ: 2014 has `brand` and `categories`, a list of paths; 2018 `brand` and
`category`, one path; 2023 `store` and `categories`, one path, or else `main_category`.
`description` is text, or a list of it. Pieces of web pages are among the values: HTML tags are
taken out and entities decoded, and what is a script or a style sheet is left out.
"""

import html
import re
from typing import Any

MAX_DESCRIPTION_CHARS = 1000  # more is cut off; sentence encoders read about 250 words
_TAG = re.compile(r"<[^<>]*>")
_SCRIPT = re.compile(r"getTime\(|function\s*\(\w*\)\s*\{|^\s*(var |[.#@][\w-]+[^;]*\{)")
_PRICE = re.compile(r"[$£€]?\s?\d[\d,]*(\.\d+)?(\s?-\s?[$£€]?\s?\d[\d,]*(\.\d+)?)?")


def item_record(item_id: str, product: dict[str, Any]) -> dict:
    """Returns the item record of a product's fields; what is not text where it should be is none.

    A price is text such as "$5.99", as it stands in the file but for the dollar sign that 2014 and
    2023 leave out.
    """
    paths = product.get("categories") or product.get("category") or product.get("main_category")
    record = {
        "item_id": item_id,
        "title": clean(product.get("title")),
        "brand": clean(product.get("brand") or product.get("store")),
        "categories": _paths(paths),
        "price": _price(product.get("price")),
        "description": _description(product.get("description")),
    }
    return {name: value for name, value in record.items() if value}


def clean(value: Any) -> str:
    """Returns text in one line, without HTML; nothing, if it is none, or a piece of a script."""
    if not isinstance(value, str) or _SCRIPT.search(value):
        return ""
    text = _TAG.sub(" ", html.unescape(value)) if "<" in value or "&" in value else value
    return " ".join(text.split())


def names(value: Any) -> list[str]:
    """Returns the names in a list of them, clean; none, if it is no list."""
    return [*filter(None, map(clean, value))] if isinstance(value, list) else []


def _paths(value: Any) -> list[list[str]]:
    """Returns the paths in a list of paths, in one path, or in one name."""
    value = value if isinstance(value, list) else [value]
    paths = value if value and all(isinstance(path, list) for path in value) else [value]
    return [*filter(None, map(names, paths))]


def _price(value: Any) -> str:
    if isinstance(value, int | float):  # 2014, 2023
        return f"${value:.2f}" if value > 0 else ""  # which NaN is not
    text = clean(value)
    if not _PRICE.fullmatch(text):
        return ""
    return text if text[0] in "$£€" else f"${text}"


def _description(value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    text = " ".join(filter(None, map(clean, parts)))
    if len(text) <= MAX_DESCRIPTION_CHARS:
        return text
    return text[: MAX_DESCRIPTION_CHARS + 1].rpartition(" ")[0] or text[:MAX_DESCRIPTION_CHARS]
