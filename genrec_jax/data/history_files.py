"""Files of histories to recommend for: users, each with item ids, oldest first.

* `.jsonl`: one JSON object a line, `{"user_id": ..., "history": [item_id, ...]}`;
* `.txt`: one user a line, `user_id item_id item_id ...`, as in the compact format;
* `.parquet`: the columns `user_id` and `history`, a list.

The first two may be gzipped (`.gz`). Ids are text or numbers, compared as text as in tables.
"""

import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from genrec_jax.data import table_files, text_files
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
    suffix = table_files.suffix(path)
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
    for number, record in text_files.json_lines(path):
        where = f"{path}:{number}"
        if not isinstance(record, dict) or not record.keys() >= set(_COLUMNS):
            raise UserError(f"{where}: each line must be a JSON object with user_id and history")
        user_id, history = (record[column] for column in _COLUMNS)
        if not table_files.is_id(user_id):
            raise _no_user(where, user_id)
        if not isinstance(history, list) or not all(map(table_files.is_id, history)):
            raise _no_history(where)
        user_id, *item_ids = map(table_files.value_as_text, [user_id, *history])
        yield UserHistory(where, user_id, item_ids)


def _parquet_rows(path) -> Iterator[UserHistory]:
    with table_files.open_parquet(path) as file:
        table_files.check_columns(path, file.schema_arrow.names, _COLUMNS)
        kind = file.schema_arrow.field("history").type
        if not table_files.is_list(kind):
            raise UserError(f"{path}: history must be a list of item ids, not {kind}")
        first = 1
        for batch in file.iter_batches(columns=list(_COLUMNS)):
            yield from _rows(path, first, batch)
            first += len(batch)


def _rows(path, first: int, batch: pa.RecordBatch) -> Iterator[UserHistory]:
    """Yields the histories of some rows, the first of which has the number `first`."""
    user_ids = table_files.column_as_text(path, "user_id", batch["user_id"]).to_pylist()
    lengths = pc.list_value_length(batch["history"]).to_pylist()
    flat = table_files.column_as_text(path, "history", batch["history"].flatten())
    item_ids = iter(flat.to_pylist())
    for number, user_id, length in zip(itertools.count(first), user_ids, lengths, strict=False):
        where = f"{path}: row {number}"
        history = None if length is None else list(itertools.islice(item_ids, length))
        if user_id is None:
            raise _no_user(where, user_id)
        if history is None or None in history:
            raise _no_history(where)
        yield UserHistory(where, user_id, history)


def _no_user(where: str, value: Any) -> UserError:
    return UserError(f"{where}: user_id must be text or a number, not {value!r}")


def _no_history(where: str) -> UserError:
    return UserError(f"{where}: history must be a list of item ids, text or numbers")


def _or(names) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
