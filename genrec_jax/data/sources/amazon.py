"""A folder of Amazon reviews and metadata as their authors publish them.

* The archive of P5 (Geng et al., 2022, https://github.com/jeykigung/P5): `sequential_data.txt`, a
  user and the items by number, oldest first; `datamaps.json`, what the numbers stand for;
  `meta.json.gz`.
* Reviews of one category with its metadata (https://cseweb.ucsd.edu/~jmcauley/datasets.html and
  https://amazon-reviews-2023.github.io), of 2014 (`reviews_Beauty_5.json.gz`,
  `meta_Beauty.json.gz`; McAuley et al., 2015), 2018 (`All_Beauty_5.json.gz`; Ni et al., 2019) or
  2023 (`All_Beauty.jsonl.gz`, `meta_All_Beauty.jsonl.gz`; Hou et al., 2024).

Metadata are JSON or, until 2014, Python literals, a product a line; literals are parsed, never
evaluated. Of reviews by the same user of the same product at the same time one is kept. A review
has the time of its day (2014, 2018) or millisecond; those at the same time stay in the order of the
file. A product's text is its title, brand or store, categories, price and description; one without
metadata has its number alone.
"""

import array
import ast
import hashlib
import html
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from genrec_jax import files
from genrec_jax.data import events as events_lib
from genrec_jax.data import text as text_lib
from genrec_jax.data import text_files
from genrec_jax.data.events import Events
from genrec_jax.data.records import Records, Source
from genrec_jax.errors import UserError

_VERSION = "1"
_SEQUENCES, _MAPS = "sequential_data.txt", "datamaps.json"
_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_LONGEST_LITERAL = 10**6  # characters; the parser's memory grows with them
_TAGS = re.compile(r"<[^>]*>")
# The number of the product in a line of metadata; the first pattern that is found counts.
_PRODUCTS = [
    re.compile(rf"""["']{name}["']\s*:\s*["']([^"']+)["']""") for name in ("parent_asin", "asin")
]
_SECONDS = {"unixReviewTime": 1, "timestamp": 1000}  # by the name of the time: units a second


class _Paths(NamedTuple):
    events: pathlib.Path  # sequences or reviews
    meta: pathlib.Path
    maps: pathlib.Path | None  # of P5


def layout(directory: pathlib.Path) -> _Paths | None:
    """Returns the files in a folder, None if these are not Amazon's."""
    if (directory / _MAPS).is_file() and (directory / _SEQUENCES).is_file():
        meta = _find(directory, "meta")
        if meta is None:
            raise UserError(f"{directory} has no meta.json.gz: it is a part of the P5 archive")
        return _Paths(directory / _SEQUENCES, meta, directory / _MAPS)
    tables = sorted(path for path in directory.iterdir() if path.name.endswith(_SUFFIXES))
    metas = [path for path in tables if path.name.startswith("meta_")]
    reviews = [path for path in tables if not path.name.startswith("meta")]
    if not metas or _find(directory, "items"):  # the latter is the compact format
        return None
    if len(metas) > 1 or len(reviews) != 1:
        raise UserError(
            f"{directory} has {len(metas)} files of metadata and {len(reviews)} of reviews: leave "
            "one of each there, of one category"
        )
    return _Paths(reviews[0], metas[0], None)


def _find(directory: pathlib.Path, stem: str) -> pathlib.Path | None:
    paths = (directory / (stem + suffix) for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def source(directory: pathlib.Path, name: str, k_core: int) -> Source:
    """Returns the data set in a folder that has a `layout`.

    Args:
        directory: the folder.
        name: of the data set.
        k_core: how many reviews each user and product must have; 0 for no such rule, which is
            right for files that are cores already (`_5`) and for P5.
    """
    paths = layout(directory)
    settings = [_VERSION, str(k_core), *(files.sha256(path) for path in paths if path)]
    content_hash = hashlib.sha256(" ".join(settings).encode()).hexdigest()[:16]
    read = _read_p5 if paths.maps else _read_reviews
    return Source(name, content_hash, lambda: read(paths, k_core))


def _read_p5(paths: _Paths, k_core: int) -> Records:
    if k_core:
        raise UserError(f"--config.data.k_core={k_core}: P5's sequences are a core: leave it out")
    try:
        maps = json.loads(paths.maps.read_text(encoding="utf-8"))
        item_ids = [maps["id2item"][str(n)] for n in range(1, len(maps["id2item"]) + 1)]
        user_ids = maps["id2user"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{paths.maps}: no id2item and id2user from 1 on ({error!r}): fetch it again"
        ) from error

    def users() -> Iterator[dict]:
        for number, line in text_files.lines(paths.events):
            user, *items = line.split()
            places = [int(item) - 1 if item.isdecimal() else -1 for item in items]
            if user not in user_ids or not all(0 <= place < len(item_ids) for place in places):
                raise UserError(
                    f"{paths.events}:{number}: a user or item that {paths.maps.name} lacks: fetch "
                    "both files again"
                )
            yield {"user_id": user_ids[user], "items": places, "times": []}

    return Records(_products(paths.meta, item_ids), users(), {})


def _read_reviews(paths: _Paths, k_core: int) -> Records:
    users, products = {}, {}
    columns = [array.array("q") for _ in Events._fields]
    for number, review in text_files.json_lines(paths.events):
        user, product, *times = _review(review, f"{paths.events}:{number}")
        numbers = users.setdefault(user, len(users)), products.setdefault(product, len(products))
        for column, value in zip(columns, (*numbers, *times), strict=True):
            column.append(value)
    if not users:
        raise UserError(f"{paths.events}: no reviews: give one a line")
    events = Events(*(np.array(column) for column in columns))
    events, num_duplicated = events_lib.keep(events, events_lib.is_first(events))
    facts = {"data/num_duplicated_events": num_duplicated}
    items = list(_products(paths.meta, list(products)))
    if k_core:
        items, events, more = events_lib.core(paths.events, items, events, k_core)
        facts |= more
    return Records(items, events_lib.histories(events, list(users), has_times=True), facts)


def _review(review: Any, where: str) -> tuple[str, str, int, int]:
    """Returns user, product, time in the file's unit, and in seconds."""
    if isinstance(review, dict):
        user = review.get("reviewerID", review.get("user_id"))
        product = review.get("parent_asin", review.get("asin"))
        for name, per_second in _SECONDS.items():
            time = review.get(name)
            if isinstance(time, int) and isinstance(user, str) and isinstance(product, str):
                return user, product, time, time // per_second
    raise UserError(
        f"{where}: no review: it needs reviewerID, asin and unixReviewTime, or user_id, "
        "parent_asin and timestamp"
    )


def _products(path: pathlib.Path, item_ids: Iterable[str]) -> Iterator[dict]:
    """Yields the item records of products, in the order of their numbers given."""
    wanted = dict.fromkeys(item_ids)
    for number, line in text_files.lines(path):
        # Most products have no reviews, and parsing is slow.
        product = next((found.group(1) for p in _PRODUCTS if (found := p.search(line))), None)
        if product is None:
            raise UserError(f"{path}:{number}: no asin: each line must be a product")
        if product in wanted and wanted[product] is None:
            wanted[product] = _record(product, _parse(line, f"{path}:{number}"))
    for product, record in wanted.items():
        yield record or {"item_id": product, "text": product}


def _parse(line: str, where: str) -> dict:
    try:
        value = json.loads(line)
    except ValueError:
        value = _literal(line, where)
    if not isinstance(value, dict):
        raise UserError(f"{where}: each line must be a product, as JSON or a Python literal")
    return value


def _literal(line: str, where: str) -> Any:
    if len(line) > _LONGEST_LITERAL:
        raise UserError(f"{where}: {len(line)} characters: no product is so long; remove the line")
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UserError(f"{where}: neither JSON nor a Python literal: correct the line") from error


def _record(product: str, meta: dict) -> dict:
    categories = meta.get("categories") or meta.get("category") or []
    if categories and isinstance(categories[0], str):  # from 2018 on one path instead of several
        categories = [categories]
    record = {
        "item_id": product,
        "title": _plain(meta.get("title")),
        "brand": _plain(meta.get("brand") or meta.get("store")),
        "categories": [[_plain(name) for name in path] for path in categories],
        "price": _price(meta.get("price")),
        "description": _plain(meta.get("description")),
    }
    if not text_lib.sentence(record):
        record["text"] = product
    return record


def _price(price: Any) -> str:
    return f"{price:g}" if isinstance(price, int | float) else _plain(price)


def _plain(value: Any) -> str:
    """Returns text without tags, entities and surplus spaces; of a list, its parts as one."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return ""
    return " ".join(html.unescape(_TAGS.sub(" ", value)).split())
