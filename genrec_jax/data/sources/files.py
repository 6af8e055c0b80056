"""A folder in the compact format: items.jsonl, sequences.txt and, optionally, timestamps.txt.

* `items.jsonl`: one JSON object a line with `item_id` and any of `title`, `brand`, `categories`
  (list of paths) and `text`. The order of the lines is the order of the catalogue.
* `sequences.txt`: one user a line, `user_id item_id item_id ...`, oldest first.
* `timestamps.txt`: the same lines with integer times in place of items, -1 where unknown.

Each file may be gzipped (`.gz`).
"""

import hashlib
import pathlib
from collections.abc import Iterator

import numpy as np

from genrec_jax.data import table_files
from genrec_jax.data.records import Records, Source
from genrec_jax.data.text_files import find, json_lines, lines
from genrec_jax.errors import UserError

_ITEMS, _SEQUENCES, _TIMESTAMPS = "items.jsonl", "sequences.txt", "timestamps.txt"


def source(directory: str, name: str) -> Source:
    """Returns the data set in `directory`.

    Raises:
        UserError: if the folder or one of its files is missing, or, while reading, at the first
            line that is not in the format.
    """
    root = pathlib.Path(directory)
    if not root.is_dir():
        raise UserError(f"no folder {root}: give the folder of one data set by --config.data.dir")
    paths = {file: find(root, file) for file in (_ITEMS, _SEQUENCES, _TIMESTAMPS)}
    for file in (_ITEMS, _SEQUENCES):
        if paths[file] is None:
            raise UserError(f"{root} has no {file} or {file}.gz, which the compact format needs")
    return Source(name, _hash(paths.values()), lambda: _read(paths))


def is_in(directory: str) -> bool:
    """Returns whether a file of the compact format is in the folder."""
    root = pathlib.Path(directory)
    return any(find(root, file) for file in (_ITEMS, _SEQUENCES))


def _hash(paths) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path is not None:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _read(paths) -> Records:
    items = list(_items(paths[_ITEMS]))
    if not items:
        raise UserError(f"{paths[_ITEMS]}: no items: give one a line")
    position = {item["item_id"]: place for place, item in enumerate(items)}
    return Records(items, _users(paths[_SEQUENCES], paths[_TIMESTAMPS], position), {})


def _items(path: pathlib.Path) -> Iterator[dict]:
    seen: dict[str, int] = {}
    for number, item in json_lines(path):
        if not isinstance(item, dict) or item.get("item_id") is None:
            raise UserError(f"{path}:{number}: each line must be a JSON object with an item_id")
        item = {field: value for field, value in item.items() if value is not None}
        _check_fields(item, f"{path}:{number}")
        item["item_id"] = table_files.value_as_text(item["item_id"])
        first = seen.setdefault(item["item_id"], number)
        if first != number:
            raise UserError(
                f"{path}:{number}: item_id {item['item_id']} was already on line {first}: keep one "
                "of them"
            )
        yield item


def _check_fields(item: dict, where: str) -> None:
    if not table_files.is_id(item["item_id"]):
        raise UserError(f"{where}: item_id must be text or a number, not {item['item_id']!r}")
    for field in ("title", "brand", "text"):
        if not isinstance(item.get(field, ""), str):
            raise UserError(f"{where}: {field} must be a string, not {item[field]!r}")
    paths = item.get("categories", [])
    if not isinstance(paths, list) or not all(
        isinstance(path, list) and all(isinstance(name, str) for name in path) for path in paths
    ):
        raise UserError(f"{where}: categories must be a list of lists of strings, not {paths!r}")


def _users(sequences, timestamps, position) -> Iterator[dict]:
    seen: dict[str, int] = {}
    times = lines(timestamps) if timestamps else None
    for number, line in lines(sequences):
        user_id, *item_ids = line.split()
        first = seen.setdefault(user_id, number)
        if first != number:
            raise UserError(
                f"{sequences}:{number}: user {user_id} was already on line {first}: keep one of "
                "them"
            )
        try:
            items = [position[item_id] for item_id in item_ids]
        except KeyError as error:
            raise UserError(
                f"{sequences}:{number}: item {error.args[0]} is not in {_ITEMS}: add it there or "
                "remove it here"
            ) from error
        user_times = _times(timestamps, next(times, None), user_id, len(items)) if times else []
        yield {"user_id": user_id, "items": items, "times": user_times}
    if not seen:
        raise UserError(f"{sequences}: no users: give one a line")
    surplus = next(times, None) if times else None
    if surplus is not None:
        raise UserError(
            f"{timestamps}:{surplus[0]}: more lines than {sequences.name} has: remove them"
        )


def _times(path, numbered_line, user_id: str, length: int) -> list[int]:
    if numbered_line is None:
        raise UserError(f"{path}: no line for user {user_id}; it needs the lines of {_SEQUENCES}")
    number, line = numbered_line
    first, *times = line.split()
    if first != user_id or len(times) != length:
        raise UserError(
            f"{path}:{number}: expected user {user_id} with {length} times, found user {first} "
            f"with {len(times)}"
        )
    try:
        return np.array([int(time) for time in times], np.int64).tolist()
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{path}:{number}: times must be whole numbers of at most 64 bits: {error}"
        ) from error
