"""Large files with one event a line, read into columns by blocks of whole lines.

Arrow reads a block. Only one that it cannot read, or in which something is missing, is read line by
line, to name the lines at fault. So what is in memory is a block, and 16 bytes an event.
"""

import datetime
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from genrec_jax.data import events as events_lib
from genrec_jax.data import text_files
from genrec_jax.data.events import Events
from genrec_jax.data.records import Records
from genrec_jax.data.text_files import BadLines
from genrec_jax.errors import UserError

_FIELDS = ("user", "item", "time")
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")  # fast, for it begins with a letter and no choice


class Format(NamedTuple):
    """How a file's lines are read.

    `read_block` returns the columns of users, items and times of a block, or raises
    pa.ArrowException. `read_line` returns the same of a line, or raises ValueError with what is
    wrong. It may read more than the former; the former must read nothing that the latter would not.
    """

    read_block: Callable[[bytes], pa.Table]
    read_line: Callable[[bytes], tuple[str | int, str | int, int]]
    id_type: pa.DataType
    num_header_lines: int = 0


class EventColumns(NamedTuple):
    """N events, in the order of the files; the names are in the order of their first events."""

    users: np.ndarray  # [N] int32 places in `user_names`
    user_names: pa.Array
    items: np.ndarray  # [N] int32 places in `item_names`
    item_names: pa.Array
    times: np.ndarray  # [N] int64

    def events(self, per_second: int = 1) -> Events:
        seconds = self.times if per_second == 1 else self.times // per_second
        return Events(self.users, self.items, self.times, seconds)


def read(paths: Sequence[pathlib.Path], form: Format, bad_lines: BadLines) -> EventColumns:
    """Returns the events of files that have the same format.

    Raises:
        UserError: at the first bad line that is one too many, or if there are no events.
    """
    chunks = {name: [] for name in _FIELDS}
    for path in paths:
        num_header_lines = form.num_header_lines
        for first, block in text_files.blocks(path):
            for _ in range(num_header_lines):
                _, _, block = block.partition(b"\n")
            columns = _read_block(path, first + num_header_lines, block, form, bad_lines)
            num_header_lines = 0
            for name in _FIELDS:
                chunks[name].append(columns[name])
    if not sum(map(len, chunks["time"])):
        raise UserError(f"{paths[0]} has no events: get the file again")
    times = np.concatenate(chunks.pop("time"))
    return EventColumns(*_coded(chunks.pop("user")), *_coded(chunks.pop("item")), times)


def read_records(
    path: pathlib.Path,
    form: Format,
    read_items: Callable[[set[str], BadLines], list[dict]],
    *,
    k_core: int,
    max_bad_lines: int,
) -> Records:
    """Returns the records of a file of events whose times are seconds.

    Args:
        read_items: returns the item records that it finds of the items asked for, each once.
        k_core, max_bad_lines: see the sources; bad lines of events and of items count together.
    """
    bad_lines = BadLines(max_bad_lines)
    columns = read([path], form, bad_lines)
    records = events_lib.to_records(
        columns.events(),
        columns.user_names,
        columns.item_names,
        lambda wanted: read_items(wanted, bad_lines),
        has_times=True,
        k_core=k_core,
        where=str(path),
    )
    records.facts["data/num_bad_lines"] = bad_lines.num
    return records


def csv_format(
    names: Sequence[str],
    columns: tuple[str, str, str, str],
    delimiter: str,
    *,
    id_type: pa.DataType,
    num_header_lines: int,
) -> Format:
    """Returns the format of lines with fields that are never in quotes.

    Args:
        names: of all fields, each once.
        columns: which of these are the user, the item, the time and the rating, which must be a
            number and is not read otherwise.
        delimiter: what is between fields; of several characters, each line has that of the first.
        id_type: string, or int64 if ids must be whole numbers.
    """
    user, item, time, rating = columns
    types = {user: id_type, item: id_type, time: pa.int64(), rating: pa.float64()}
    parse_options = pyarrow.csv.ParseOptions(delimiter=delimiter[0], quote_char=False)
    convert_options = pyarrow.csv.ConvertOptions(
        include_columns=[user, item, time, rating],
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
    )
    places = [names.index(name) for name in (user, item, time, rating)]

    def read_block(block: bytes) -> pa.Table:
        if len(delimiter) > 1:
            block = block.replace(delimiter.encode(), delimiter[:1].encode())
        read_options = pyarrow.csv.ReadOptions(column_names=names)
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block), read_options, parse_options, convert_options
        )
        if table[rating].null_count:
            raise pa.ArrowInvalid("no rating")
        return table.select([user, item, time])

    def read_line(line: bytes) -> tuple[str | int, str | int, int]:
        fields = line.decode(errors="replace").strip("\r\n").split(delimiter)
        if len(fields) != len(names):
            raise ValueError(f"{len(fields)} fields, not {len(names)}: {', '.join(names)}")
        values = [fields[place] for place in places]
        for name, value in zip((user, item, time), values, strict=False):
            is_number = name == time or id_type == pa.int64()
            if is_number and not (value.isascii() and value.isdigit() and len(value) < 19):
                raise ValueError(f"{name} must be a whole number, not {value!r}")
            if not value or "\ufffd" in value:
                raise ValueError(f"{name} must be text in UTF-8, not {value!r}")
        try:
            float(values[3])
        except ValueError as error:
            raise ValueError(f"{rating} must be a number, not {values[3]!r}") from error
        if id_type == pa.int64():
            return int(values[0]), int(values[1]), int(values[2])
        return values[0], values[1], int(values[2])

    return Format(read_block, read_line, id_type, num_header_lines)


def json_format(user: str, item: str, time: str, *, is_date: bool = False) -> Format:
    """Returns the format of lines of JSON, or of Python's dictionaries, with these keys.

    Args:
        is_date: whether times are ISO 8601 in UTC, and not whole numbers; they become seconds.
    """
    time_type = pa.timestamp("s") if is_date else pa.int64()
    schema = pa.schema({user: pa.string(), item: pa.string(), time: time_type})
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")

    def read_block(block: bytes) -> pa.Table:
        if block.startswith(text_files.PRINTED):
            raise pa.ArrowInvalid("lines that Python has printed")
        table = pyarrow.json.read_json(pa.BufferReader(block), parse_options=options)
        return table.cast(pa.schema({user: pa.string(), item: pa.string(), time: pa.int64()}))

    def read_line(line: bytes) -> tuple[str, str, int]:
        record = text_files.parse_fields(line, (user, item, time))
        for name in (user, item):
            if not isinstance(record.get(name), str) or not record[name]:
                raise ValueError(f"{name} must be text, not {record.get(name)!r}")
        value = _seconds(record.get(time), time) if is_date else record.get(time)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError(f"{time} must be a whole number, not {value!r}")
        return record[user], record[item], value

    return Format(read_block, read_line, pa.string())


def _seconds(value: object, name: str) -> int:
    """Returns the seconds since 1970 of ISO 8601, or raises ValueError."""
    try:
        date = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a date, such as 2017-12-31, not {value!r}") from error
    return int((date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp())


def _read_block(
    path: pathlib.Path, first: int, block: bytes, form: Format, bad_lines: BadLines
) -> dict[str, pa.DictionaryArray | np.ndarray]:
    """Returns the columns of a block whose first line has the number `first`."""
    try:
        table = form.read_block(block).rename_columns(_FIELDS).combine_chunks()
        table.validate(full=True)  # of text, whether it is UTF-8
    except pa.ArrowException:
        table = None
    # Arrow takes two objects of JSON on a line for two rows, and a blank line for none.
    num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
    has_blank_line = _BLANK_LINE.search(b"\n" + block)
    is_whole = table is not None and len(table) == num_lines and not has_blank_line
    if not is_whole or _lacks_something(table):
        table = _read_lines(path, first, block, form, bad_lines)
    columns = {name: _dictionary(table[name]) for name in ("user", "item")}
    return columns | {"time": np.asarray(table["time"], np.int64)}


def _lacks_something(table: pa.Table) -> bool:
    for column in table.columns:
        if column.null_count:
            return True
        least = pc.min(column).as_py()
        if least == "" or (isinstance(least, int) and least < 0):
            return True
    return False


def _read_lines(path, first, block, form: Format, bad_lines: BadLines) -> pa.Table:
    rows = []
    for number, line in text_files.numbered_lines(first, block):
        try:
            rows.append(form.read_line(line))
        except ValueError as error:
            bad_lines.add(path, number, error)
    types = (form.id_type, form.id_type, pa.int64())
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, _FIELDS)


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    coded = array.dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))


def _coded(chunks: list[pa.DictionaryArray]) -> tuple[np.ndarray, pa.Array]:
    """Returns [N] int32 places in the names, and these."""
    unified = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([np.asarray(chunk.indices) for chunk in unified.chunks])
    return codes, unified.chunk(0).dictionary
