"""Files of histories to recommend for: users, each with item ids, oldest first.

* `.jsonl`: one JSON object a line, `{"user_id": ..., "history": [item_id, ...]}`;
* `.txt`: one user a line, `user_id item_id item_id ...`, as in the compact format;
* `.parquet`: the columns `user_id` and `history`, a list.

The first two may be gzipped (`.gz`). Ids are strings or integers.
"""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet

from genrec_jax.data import text_files
from genrec_jax.errors import UserError

_COLUMNS = ("user_id", "history")
_SUFFIXES = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz", ".parquet")


class UserHistory(NamedTuple):
    where: str  # the file and the line or row, for messages
    user_id: str
    item_ids: list[str]


def read(path: str | os.PathLike) -> Iterator[UserHistory]:
    """Yields the histories of a file, in its order.

    Raises:
        UserError: if there is no such file, or at the first line or row that is not in the format.
    """
    path = pathlib.Path(path)
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if suffix not in _SUFFIXES:
        raise UserError(f"{path} is no file of histories: its name must end in {_or(_SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"no file {path}: give one by --config.histories, or leave it out")
    if suffix == ".parquet":
        return _parquet_rows(path)
    return (_json_line if "jsonl" in suffix else _compact_line)(path)


def _compact_line(path) -> Iterator[UserHistory]:
    for number, line in text_files.lines(path):
        user_id, *item_ids = line.split()
        yield UserHistory(f"{path}:{number}", user_id, item_ids)


def _json_line(path) -> Iterator[UserHistory]:
    for number, line in text_files.lines(path):
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON: {error}") from error
        if not isinstance(record, dict) or not record.keys() >= set(_COLUMNS):
            raise UserError(f"{where}: each line must be a JSON object with user_id and history")
        yield _checked(where, record)


def _parquet_rows(path) -> Iterator[UserHistory]:
    try:
        with parquet.ParquetFile(path) as file:
            missing = sorted(set(_COLUMNS) - set(file.schema_arrow.names))
            if missing:
                raise UserError(f"{path} has no column {' or '.join(missing)}")
            number = 0
            for batch in file.iter_batches(columns=list(_COLUMNS)):
                for record in batch.to_pylist():
                    number += 1
                    yield _checked(f"{path}: row {number}", record)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file that can be read: {error}") from error


def _checked(where: str, record: dict[str, Any]) -> UserHistory:
    user_id, history = (record[column] for column in _COLUMNS)
    if not _is_id(user_id):
        raise UserError(f"{where}: user_id must be a string or an integer, not {user_id!r}")
    if not isinstance(history, list) or not all(map(_is_id, history)):
        raise UserError(f"{where}: history must be a list of item ids, strings or integers")
    return UserHistory(where, str(user_id), [str(item_id) for item_id in history])


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _or(names) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
