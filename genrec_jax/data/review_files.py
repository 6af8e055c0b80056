"""Reviews, and what they are of, in two files: lines of JSON or of Python's dictionaries.

Every review is an event, whatever its rating; a user's are in the order of their dates, those of
the same date in the order of the file. See `events.to_records` for the rest. Either file may be
gzipped (`.gz`).
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from genrec_jax.data import event_files, text_files
from genrec_jax.data.records import Records, Source, hash_of_files
from genrec_jax.data.text_files import BadLines
from genrec_jax.errors import UserError

_VERSION = "1"


class Layout(NamedTuple):
    """How a data set's two files are named and read."""

    reviews: str  # file names, without .gz
    items: str
    keys: tuple[str, str, str]  # a review's user, item and date, the latter as ISO 8601 in UTC
    item_key: str  # an item's id
    describe: Callable[[dict[str, Any]], dict]  # an item to its record, but for the id
    citation: str
    homepage: str


def is_in(directory: str, layout: Layout) -> bool:
    """Returns whether the reviews are in the folder."""
    return text_files.find(pathlib.Path(directory), layout.reviews) is not None


def source(directory: str, name: str, layout: Layout, k_core: int, max_bad_lines: int) -> Source:
    """Returns the data set in a folder.

    Args:
        name: of the data set.
        k_core: how many reviews each user and each item must have; 0 for no such rule.
        max_bad_lines: how many lines may be left out because they cannot be read.

    Raises:
        UserError: if a file is missing, or, while reading, at the first bad line that is one too
            many.
    """
    root = pathlib.Path(directory)
    paths = []
    for file in (layout.reviews, layout.items):
        path = text_files.find(root, file)
        if path is None:
            raise UserError(f"{root} has no {file} or {file}.gz: get it from {layout.homepage}")
        paths.append(path)
    content_hash = hash_of_files(_VERSION, root, paths, k_core, max_bad_lines)
    reviews, items = paths

    def read() -> Records:
        return event_files.read_records(
            reviews,
            event_files.json_format(*layout.keys, is_date=True),
            lambda wanted, bad_lines: list(_items(layout, items, wanted, bad_lines)),
            k_core=k_core,
            max_bad_lines=max_bad_lines,
        )

    return Source(name, content_hash, read, layout.citation, layout.homepage)


def _items(
    layout: Layout, path: pathlib.Path, wanted: set[str], bad_lines: BadLines
) -> Iterator[dict]:
    """Yields the records of the items wanted, each once: some are there several times."""
    left = set(wanted)
    for number, line in text_files.binary_lines(path):
        try:
            item = text_files.parse_record(line)
        except ValueError as error:
            bad_lines.add(path, number, error)
            continue
        item_id = item.get(layout.item_key)  # without one nobody can have reviewed it
        if isinstance(item_id, str) and item_id in left:
            left.remove(item_id)
            yield layout.describe(item) | {"item_id": item_id}
