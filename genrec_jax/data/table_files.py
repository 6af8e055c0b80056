"""Tables with named columns: CSV, TSV, JSON Lines, the three maybe gzipped, or Parquet.

Columns are read as text, as it stands in the file ("007" is not "7"), unless Parquet gives them
another type. As text, whole numbers that are stored as floats, as pandas does where values are
missing, are written without ".0", so that they equal those that are not. These are the rules for
the ids in all files.
"""

import contextlib
import csv
import difflib
import itertools
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from genrec_jax.data import text as text_lib
from genrec_jax.data.text_files import all_lines, json_lines, lines, open_binary
from genrec_jax.errors import UserError

TEXT = pa.large_string()
_PATHS = pa.large_list(pa.large_list(TEXT))  # what columns of JSON hold that may hold lists
Column = pa.Array | pa.ChunkedArray
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLOCK_BYTES = 1 << 24  # a row of CSV must fit
_BATCH_ROWS = 1 << 16


class Table(NamedTuple):
    """The columns that were asked for and are there; `names` are those of the whole file."""

    path: pathlib.Path
    names: list[str]
    columns: dict[str, pa.ChunkedArray]


def suffix(path: pathlib.Path) -> str:
    """Returns the path's last suffix, with the one before it if that is .gz."""
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def read(path: pathlib.Path, flags: dict[str, str]) -> Table:
    """Reads columns, those of text formats as text.

    Args:
        flags: for each column the flag that names it, or "" if it may be missing. Only those of the
            texts may hold lists.
    """
    readers = {".jsonl": _read_json_lines, ".parquet": _read_parquet}
    table = readers.get(_kind(path), _read_csv)(path, flags)
    if not len(next(iter(table.columns.values()))):
        raise UserError(f"{path} has no rows")
    return table


def _kind(path: pathlib.Path) -> str:
    return suffix(path).removesuffix(".gz")


def _read_csv(path: pathlib.Path, flags: dict[str, str]) -> Table:
    _, names = next(_csv_rows(path), (1, []))
    if not names:
        raise UserError(f"{path} is empty: its first row must name the columns")
    columns = _find_columns(path, names, flags)
    try:
        with open_binary(path) as file:
            table = pyarrow.csv.read_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=_DELIMITERS[_kind(path)], newlines_in_values=True
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=columns,
                    column_types=dict.fromkeys(columns, TEXT),
                    null_values=[""],  # a user may be called NA
                    strings_can_be_null=True,
                ),
            )
        with open_binary(path) as file:
            blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
            has_quotes = any(b'"' in block for block in blocks)
    except pa.ArrowInvalid as error:
        # Arrow does not know the line.
        for line, fields in _csv_rows(path, strict=True):
            if len(fields) != len(names):
                raise UserError(
                    f"{path}:{line}: {len(fields)} fields, but the first row names {len(names)} "
                    "columns: correct the row; values that hold delimiters must be in quotes"
                ) from error
        raise UserError(f"{path}: not a table that can be read: {error}: write it again") from error
    if has_quotes:  # Arrow takes all the rows from one lone quote to the next for one value
        for _ in _csv_rows(path, strict=True):
            pass
    return Table(path, names, {name: table[name] for name in columns})


def _csv_rows(path: pathlib.Path, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows, that of names first, each with the number of its first line."""
    kind = _kind(path)
    csv.field_size_limit(_BLOCK_BYTES)
    reader = csv.reader(all_lines(path), delimiter=_DELIMITERS[kind], strict=strict)
    line = 1
    try:
        for fields in reader:
            if fields:  # a blank line is no row
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}:{line}: not {kind[1:].upper()}: {error}: put values that hold quotes or line "
            "ends in quotes, with each quote in them doubled, and end rows by \\n"
        ) from error


def _read_json_lines(path: pathlib.Path, flags: dict[str, str]) -> Table:
    names: dict[str, None] = {}
    chunks = {name: [] for name in flags}
    rows = _json_rows(path, flags, names)
    while batch := list(itertools.islice(rows, _BATCH_ROWS)):
        for name, values in zip(flags, zip(*batch, strict=True), strict=True):
            chunks[name].append(pa.array(values, _json_type(flags[name])))
    if not names:
        raise UserError(f"{path} has no rows")
    columns = _find_columns(path, list(names), flags)
    return Table(
        path,
        list(names),
        {name: pa.chunked_array(chunks[name], _json_type(flags[name])) for name in columns},
    )


def _json_type(flag: str) -> pa.DataType:
    return _PATHS if flag in ("", "text") else TEXT


def _json_rows(
    path: pathlib.Path, flags: dict[str, str], names: dict[str, None]
) -> Iterator[list[str | list[list[str]] | None]]:
    """Yields each line's columns, as text or as paths of it, and adds its keys to `names`.

    Arrow's own reader takes text that looks like a date for one.
    """
    types = list(map(_json_type, flags.values()))
    for number, record in json_lines(path):
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: each line must be a JSON object")
        if not names.keys() >= record.keys():
            names.update(dict.fromkeys(record))
        values = [record.get(name) for name in flags]
        for name, kind, value in zip(flags, types, values, strict=True):
            if isinstance(value, list) and kind == TEXT:
                raise UserError(f"{path}:{number}: {name} must be text or a number, not {value!r}")
        try:
            yield [
                value_as_text(value) if kind == TEXT else _as_paths(value)
                for kind, value in zip(types, values, strict=True)
            ]
        except TypeError as error:
            raise UserError(
                f"{path}:{number}: a value is neither text nor a number: {error}: flatten it, or "
                "name other columns"
            ) from error


def _read_parquet(path: pathlib.Path, flags: dict[str, str]) -> Table:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        columns = _find_columns(path, names, flags)
        table = file.read(columns=columns)
        table.validate(full=True)
    return Table(path, names, {name: table[name] for name in columns})


@contextlib.contextmanager
def open_parquet(path: str | os.PathLike) -> Iterator[pa.parquet.ParquetFile]:
    """Gives a Parquet file whose pages are compared with their checksums, if they have any."""
    try:
        with pa.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not a Parquet file, or a damaged one: {error}: write or copy it again"
        ) from error


def check_columns(path: str | os.PathLike, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises UserError unless each of the columns wanted is there, and once."""
    if any(names.count(name) != 1 for name in wanted):
        raise UserError(
            f"{path} must have {' and '.join(f'one column {name}' for name in wanted)}; its "
            f"columns are {listed(names, wanted[0])}"
        )


def is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _find_columns(path: pathlib.Path, names: Sequence[str], flags: dict[str, str]) -> list[str]:
    """Returns which columns are there."""
    for name, flag in flags.items():
        if names.count(name) > 1:
            raise UserError(f"{path} has {names.count(name)} columns {name}: rename one")
        if name in names or not flag:
            continue
        remedy = f"name it by --config.data.{flag}"
        if flag == "item_id":
            remedy += ", or both tables' columns with a comma between, the items' first"
        if flag == "time":
            remedy += ", or leave it empty (--config.data.time=) if the rows are in time's order"
        raise UserError(
            f"{path} has no column {name!r}: {remedy}; its columns are {listed(names, name)}"
        )
    return [name for name in flags if name in names]


def listed(names: Sequence[str], wanted: str = "") -> str:
    """Returns the first names, those most like the wanted one before the others."""

    def unlikeness(name):
        return -difflib.SequenceMatcher(None, name.lower(), wanted.lower()).ratio()

    return ", ".join(sorted(names, key=unlikeness)[:10]) + (", ..." if len(names) > 10 else "")


def where(table: Table, row: int) -> str:
    """Returns the file and the line, or the row if it has no lines, for messages."""
    path, kind = table.path, _kind(table.path)
    if kind == ".parquet":
        return f"{path}: row {row + 1}"
    numbered = lines(path) if kind == ".jsonl" else itertools.islice(_csv_rows(path), 1, None)
    line, _ = next(itertools.islice(numbered, row, None))
    return f"{path}:{line}"


def texts(table: Table, column: str) -> list[str]:
    """Returns a column as text, lists with commas between their values."""
    values = table.columns[column]
    if not pa.types.is_nested(values.type):
        return [(value or "").strip() for value in as_text(table, column).to_pylist()]
    try:
        return [(value_as_text(value) or "").strip() for value in values.to_pylist()]
    except TypeError as error:
        raise UserError(
            f"{table.path}: {column} must be text, not {values.type}: name other columns by "
            "--config.data.text"
        ) from error


def paths(table: Table, column: str) -> list[list[str]]:
    """Returns the first path of names in each row of a column that `texts` can read.

    Of lists in lists it is the first one; another list is a path itself, and so is text. Bars part
    names ("Adventure|Comedy").
    """
    values = table.columns[column]
    if not pa.types.is_nested(values.type):
        values = as_text(table, column)
    first = (next(iter(_as_paths(value)), []) for value in values.to_pylist())
    names = ([part.strip() for name in path for part in name.split("|")] for path in first)
    return [list(filter(None, path)) for path in names]


def _as_paths(value: Any) -> list[list[str]]:
    """Returns the names in a value of JSON, or in the lists of one, those of each list together.

    Raises:
        TypeError: if there is an object in it.
    """
    values = value if isinstance(value, list) else [value]
    if any(isinstance(entry, list) for entry in values):
        groups = [entry if isinstance(entry, list) else [entry] for entry in values]
    else:
        groups = [values]
    names = ([*filter(None, map(value_as_text, _flatten(group)))] for group in groups)
    return [group for group in names if group]


def as_text(table: Table, column: str) -> pa.ChunkedArray:
    """Returns a column that has no lists as text, null where it is empty."""
    return column_as_text(table.path, column, table.columns[column])


def column_as_text(path: str | os.PathLike, name: str, values: Column) -> Column:
    """Returns values that have no lists as text, null where it is empty.

    Args:
        path, name: the file and the column of `values`, for messages.
    """
    try:
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        is_float = pa.types.is_floating(values.type)
        texts = _floats_as_text(values) if is_float else values.cast(TEXT)
        texts.validate(full=True)
    except pa.ArrowException as error:
        raise UserError(
            f"{path}: {name} must be text or numbers: {error}: store it as one of these, text in "
            "UTF-8"
        ) from error
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, TEXT), texts)


def _floats_as_text(column: Column) -> Column:
    numbers = column.cast(pa.float64())
    array = np.asarray(numbers.fill_null(np.nan))
    is_whole = (np.abs(array) < 2**53) & (array == np.floor(array))
    whole = pa.array(np.where(is_whole, array, 0).astype(np.int64)).cast(TEXT)
    texts = pc.if_else(pa.array(is_whole), whole, column.cast(TEXT))
    return pc.if_else(pa.array(np.isnan(array)), pa.scalar(None, TEXT), texts)


def is_id(value: Any) -> bool:
    """Returns whether a value of JSON is text or a number, and not empty."""
    return not isinstance(value, list | dict) and value_as_text(value) is not None


def value_as_text(value: Any) -> str | None:
    """Returns what `as_text` would make of a value of JSON, or of a list of them.

    Raises:
        TypeError: if there is an object in it.
    """
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if abs(value) < 2**53 and value.is_integer() else str(value)
    if isinstance(value, list):
        return text_lib.join_names(filter(None, map(value_as_text, _flatten(value)))) or None
    raise TypeError(repr(value))


def _flatten(values: list) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flatten(value)
        else:
            yield value
