"""Two tables, one row an item and one row an event, as CSV, TSV, JSON Lines or Parquet.

Columns have any names and ids any type: they are compared as text, as it stands in CSV ("007" is
not "7"); whole numbers that are stored as floats, as pandas does where values are missing, are
written without ".0". Only the columns that are named are read.

What becomes of the events, in this order:

* those of items that the items' table lacks are left out;
* those without a time are left out, as they have no place in the order;
* of those with the same user, item and time one is kept; repeats at other times are repeats. If
  there is no column of times, repeats cannot be told from duplicates, and all are kept;
* users and items with fewer than `k_core` events are removed until there are none.

Each of these is counted in the facts. Events are in the order of their times, those of the same
time in the order of the file; users are in the order of their first rows in the file.
"""

import bisect
import hashlib
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec_jax import files
from genrec_jax.data import events as events_lib
from genrec_jax.data import table_files
from genrec_jax.data import text as text_lib
from genrec_jax.data.events import Events
from genrec_jax.data.records import Records, Source
from genrec_jax.data.splits import UNKNOWN_TIME
from genrec_jax.errors import UserError

_VERSION = "3"
_TEXT_COLUMNS = ("title", "brand", "categories", "genres", "description", "text")
_CATEGORY_COLUMNS = ("categories", "genres")  # of those that make the text, the first one there
# What text may be read as, and the decimals of seconds that are cut off to do so, for Arrow takes
# no more than the unit has. Nanoseconds reach from 1678 to 2262.
_TIME_TYPES = (
    (pa.int64(), None),
    (pa.float64(), None),
    (pa.timestamp("us"), None),
    (pa.timestamp("us", "UTC"), None),
    (pa.timestamp("ns"), 9),
    (pa.timestamp("ns", "UTC"), 9),
    (pa.timestamp("us"), 6),
    (pa.timestamp("us", "UTC"), 6),
)
_NO_TIME = "or leave it empty (--config.data.time=) if the rows are in the order of time"
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def source(
    *,
    items: str,
    interactions: str,
    item_id: str,
    user_id: str,
    time: str,
    text: str,
    k_core: int,
) -> Source:
    """Returns the data set in two files.

    Args:
        items, interactions: the paths.
        item_id: the column of item ids in both, or two columns, the items' and the interactions',
            with a comma between.
        user_id: the column of user ids.
        time: the column of times: numbers, dates, or ISO 8601 as text. Their order is that of whole
            numbers or of timestamps exactly, of other numbers as float64; text is read to the
            nanosecond, or to the microsecond if a year is beyond 2261. The records have them
            rounded down to whole numbers, dates as seconds since 1970 (UTC). If empty, the rows
            are taken to be in the order of time.
        text: the columns that make an item's text, with commas between. If empty, those of
            `title`, `brand`, `categories`, `genres`, `description` and `text` that are there. If
            `categories`, or else `genres`, is one of the columns, it is the items' categories too.
        k_core: how many events each user and each item must have; 0 for no such rule.

    Raises:
        UserError: if a file is missing or of no known kind, or, while reading, at the first thing
            that is not as it must be.
    """
    if k_core < 0:
        raise UserError(f"--config.data.k_core={k_core} must be at least 0")
    items_column, _, events_column = item_id.partition(",")
    for flag, given, column in (("item_id", item_id, items_column), ("user_id", user_id, user_id)):
        if not column:
            raise UserError(f"--config.data.{flag}={given} names no column: give that of the ids")
    paths = [_find(items, "items"), _find(interactions, "interactions")]
    contents = [(table_files.suffix(path), files.sha256(path)) for path in paths]
    settings = [_VERSION, contents, item_id, user_id, time, text, k_core]
    content_hash = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    def read() -> Records:
        item_records = _read_items(paths[0], items_column, text)
        columns = {"item_id": events_column or items_column, "user_id": user_id, "time": time}
        return _read_events(paths[1], columns, item_records, k_core)

    return Source("files", content_hash, read)


def _find(name: str, flag: str) -> pathlib.Path:
    path = pathlib.Path(name)
    if table_files.suffix(path) not in table_files.SUFFIXES:
        *suffixes, last = table_files.SUFFIXES
        raise UserError(f"--config.data.{flag}={name} must end in {', '.join(suffixes)} or {last}")
    if not path.is_file():
        raise UserError(f"no file {path}: give a table by --config.data.{flag}")
    return path


def _read_items(path: pathlib.Path, id_column: str, text: str) -> list[dict]:
    """Returns the item records, in the order of the rows."""
    chosen = [name.strip() for name in text.split(",")] if text else _TEXT_COLUMNS
    flags = dict.fromkeys(chosen, "text" if text else "") | {id_column: "item_id"}
    table = table_files.read(path, flags)
    item_ids = _ids(table, id_column)
    _check_distinct(table, id_column, item_ids)
    columns = [name for name in dict.fromkeys(chosen) if name in table.columns]
    if not columns:
        raise UserError(
            f"{path} has none of the columns {', '.join(_TEXT_COLUMNS)}: name those that make an "
            f"item's text by --config.data.text; its columns are {table_files.listed(table.names)}"
        )
    title = columns.index("title") if "title" in columns else 0
    records = [
        {
            "item_id": item_id,
            "title": values[title],
            "text": text_lib.join_fields(dict(zip(columns, values, strict=True))),
        }
        for item_id, *values in zip(
            item_ids.to_pylist(),
            *(table_files.texts(table, column) for column in columns),
            strict=True,
        )
    ]
    if not any(record["text"] for record in records):
        raise UserError(
            f"{path}: {' and '.join(columns)} are empty in all rows: name other columns by "
            "--config.data.text"
        )
    categories = next((name for name in _CATEGORY_COLUMNS if name in columns), None)
    if categories:
        paths = table_files.paths(table, categories)
        records = [
            record | {"categories": [path]} for record, path in zip(records, paths, strict=True)
        ]
    return records


def _check_distinct(table: table_files.Table, column: str, ids: pa.ChunkedArray) -> None:
    codes = np.asarray(ids.dictionary_encode().combine_chunks().indices)
    _, firsts = np.unique(codes, return_index=True)
    if len(firsts) == len(codes):
        return
    again = np.setdiff1d(np.arange(len(codes)), firsts)[0]
    first = firsts[codes[again]]
    raise UserError(
        f"{table_files.where(table, again)}: {column} {ids[again]} was already at "
        f"{table_files.where(table, first)}: keep one of them"
    )


def _read_events(
    path: pathlib.Path, columns: dict[str, str], items: list[dict], k_core: int
) -> Records:
    """Returns all records, by the rules that the module states.

    Args:
        columns: the names of the columns `item_id`, `user_id` and `time`.
    """
    table = table_files.read(path, {name: flag for flag, name in columns.items() if name})
    user_ids = _ids(table, columns["user_id"]).dictionary_encode().combine_chunks()
    places = _places(table, columns["item_id"], items)
    if columns["time"]:
        exact, seconds = _times(table, columns["time"])
    else:
        exact, seconds = np.arange(len(places)), np.full(len(places), UNKNOWN_TIME)
    events = Events(np.asarray(user_ids.indices), places, exact, seconds)

    events, num_unknown = events_lib.keep(events, events.items >= 0)
    facts = {"data/num_events_of_unknown_items": num_unknown}
    if columns["time"]:
        events, num_without_time = events_lib.keep(events, events.seconds != UNKNOWN_TIME)
        if not len(events.users):
            raise UserError(
                f"{path}: no event has a {columns['time']}: name another column by "
                f"--config.data.time, {_NO_TIME}"
            )
        events, num_duplicated = events_lib.keep(events, events_lib.is_first(events))
        facts["data/num_events_without_time"] = num_without_time
        facts["data/num_duplicated_events"] = num_duplicated
    if k_core:
        items, events, core_facts = _core(path, items, events, k_core)
        facts |= core_facts
    return Records(
        items, events_lib.users(events, user_ids.dictionary, bool(columns["time"])), facts
    )


def _places(table: table_files.Table, column: str, items: list[dict]) -> np.ndarray:
    """Returns [N], where each event's item is in the items' table, or -1."""
    item_ids = _ids(table, column)
    catalogue = pa.array([item["item_id"] for item in items], table_files.TEXT)
    places = np.asarray(pc.index_in(item_ids, value_set=catalogue).fill_null(-1))
    if (places < 0).all():
        raise UserError(
            f"{table.path}: none of its items is in the table of items: the first {column} is "
            f"{item_ids[0].as_py()!r} here and {items[0]['item_id']!r} there; name matching "
            "columns by --config.data.item_id"
        )
    return places


def _core(
    path: pathlib.Path, items: list[dict], events: Events, k: int
) -> tuple[list[dict], Events, dict[str, int]]:
    """Returns the items and events of the k-core, and facts about it."""
    core = events_lib.core(events, k, str(path))
    facts = events_lib.core_facts(events, core, len(items))
    places = np.unique(core.items)
    core = core._replace(items=np.searchsorted(places, core.items))
    return [items[place] for place in places], core, facts


def _ids(table: table_files.Table, column: str) -> pa.ChunkedArray:
    """Returns a column of ids as text."""
    ids = table_files.as_text(table, column)
    if ids.null_count:
        row = np.asarray(ids.is_null()).argmax()
        raise UserError(f"{table_files.where(table, row)}: no {column}: every row needs one")
    return ids


def _times(table: table_files.Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns [N] times in any unit, and [N] int64 in seconds, `UNKNOWN_TIME` where unknown."""
    times = _typed_times(table, column)
    if pa.types.is_timestamp(times.type):
        per_second = _PER_SECOND[times.type.unit]
        times = times.cast(pa.int64())
    else:
        per_second = 1
    exact = np.asarray(times.fill_null(0))
    is_known = ~np.asarray(times.is_null(nan_is_null=True))
    exact = np.where(is_known, exact, 0)
    is_wrong = (exact < 0) | (exact >= 2**63)
    if is_wrong.any():
        row = is_wrong.argmax()
        raise UserError(
            f"{table_files.where(table, row)}: {column} {table.columns[column][row]} is "
            "before 1970 or beyond all time: correct it, or leave it empty if it is unknown"
        )
    return exact, np.where(is_known, exact // per_second, UNKNOWN_TIME).astype(np.int64)


def _typed_times(table: table_files.Table, column: str) -> pa.ChunkedArray:
    """Returns a column of numbers, dates or text as int64, float64 or timestamp."""
    times = table.columns[column]
    if pa.types.is_dictionary(times.type):
        times = times.cast(times.type.value_type)
    kind = times.type
    try:
        if pa.types.is_null(kind) or pa.types.is_integer(kind):
            return times.cast(pa.int64())
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return times.cast(pa.float64())
        if pa.types.is_date(kind):
            return times.cast(pa.timestamp("s"))
        if pa.types.is_timestamp(kind):
            return times
        texts = table_files.as_text(table, column)
    except pa.ArrowException as error:
        raise UserError(
            f"{table.path}: {column} cannot be read as times: {error}: use numbers or ISO 8601"
        ) from error
    parsed = _parse_times(texts)
    if parsed is None:
        # The shortest beginning of the column that cannot be read ends in the culprit.
        lengths = range(len(texts) + 1)
        end = bisect.bisect(lengths, False, key=lambda n: _parse_times(texts[:n]) is None)
        raise UserError(
            f"{table_files.where(table, end - 1)}: {column} {texts[end - 1].as_py()!r} is no time, "
            "or is written unlike those before it: use numbers or ISO 8601"
        )
    return parsed


def _parse_times(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Returns the times as the first type that all of them are written as."""
    for kind, decimals in _TIME_TYPES:
        cut = texts
        if decimals:
            cut = pc.replace_substring_regex(texts, rf"(\.\d{{{decimals}}})\d+", r"\1")
        try:
            return cut.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None
