"""Tables of each format, and what may be wrong with them."""

import datetime
import decimal
import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from genrec_jax.data import table_files
from genrec_jax.errors import UserError

IDS = ["007", "b\n2", "NA", 'the "c"']
TITLES = [" Soap, hard ", None, "null", "Brush\t2"]
FLAGS = {"id": "item_id", "title": "text"}


def write(path, data):
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_parquet(path, **columns):
    parquet.write_table(pa.table(columns), path)
    return path


def delimited(delimiter):
    def field(value):
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    rows = [("more", "title", "id"), *zip("wxyz", TITLES, IDS, strict=True)]
    return "".join(delimiter.join(map(field, row)) + "\n" for row in rows)


def json_lines():
    rows = zip(IDS, TITLES, strict=True)
    return "\n".join(json.dumps({"id": i, "title": t, "more": 1}) + "\n" for i, t in rows)


def make(folder, suffix):
    path = folder / f"my.table{suffix}"
    if suffix == ".parquet":
        return write_parquet(path, more=[1] * 4, title=TITLES, id=IDS)
    kind = suffix.removesuffix(".gz")
    return write(path, json_lines() if kind == ".jsonl" else delimited(",\t"[kind == ".tsv"]))


@pytest.mark.parametrize("suffix", table_files.SUFFIXES)
def test_every_format_gives_the_same(tmp_path, suffix):
    path = make(tmp_path, suffix)
    assert table_files.suffix(path) == suffix
    table = table_files.read(path, FLAGS | {"brand": ""})
    assert sorted(table.names) == ["id", "more", "title"]
    assert list(table.columns) == ["id", "title"]  # no column that nobody needs
    assert table_files.as_text(table, "id").to_pylist() == IDS
    assert table_files.texts(table, "title") == ["Soap, hard", "", "null", "Brush\t2"]


@pytest.mark.parametrize(
    "suffix, places",
    [(".csv", [":2", ":3", ":5", ":6"]), (".jsonl.gz", [":1", ":3", ":5", ":7"])],
)
def test_rows_are_found_by_their_lines(tmp_path, suffix, places):
    path = make(tmp_path, suffix)
    table = table_files.read(path, FLAGS)
    assert [table_files.where(table, row) for row in range(4)] == [f"{path}{p}" for p in places]


def test_rows_of_parquet_are_counted_from_one(tmp_path):
    path = make(tmp_path, ".parquet")
    assert table_files.where(table_files.read(path, FLAGS), 3) == f"{path}: row 4"


DAY = datetime.date(2020, 1, 2)


@pytest.mark.parametrize(
    "column, expected",
    [
        (pa.array([3, None]), ["3", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([3.0, np.nan, None, -2.5, 1e20, 0.0]), ["3", None, None, "-2.5", "1e+20", "0"]),
        (pa.array([1.5, 2], pa.float32()), ["1.5", "2"]),
        (pa.array(["a", "", None]), ["a", None, None]),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), ["a", "b", "a", None]),
        (pa.array([5, None, 5]).dictionary_encode(), ["5", None, "5"]),
        (pa.array([b"a", "ä".encode()]), ["a", "ä"]),
        (pa.array([decimal.Decimal("12")]), ["12"]),
        (pa.array([DAY]), ["2020-01-02"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([None, None]), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_ids_of_any_type_become_text(tmp_path, column, expected):
    path = write_parquet(tmp_path / "a.parquet", id=column)
    table = table_files.read(path, {"id": "item_id"})
    assert table_files.as_text(table, "id").to_pylist() == expected


def test_values_of_json_become_text(tmp_path):
    values = [3, 3.0, 2.5, 1e20, 10**20, "", "007", None, True, float("nan")]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"id": v}) + "\n" for v in values) + "{}")
    expected = ["3", "3", "2.5", "1e+20", f"{10**20}", None, "007", None, "true", None, None]
    table = table_files.read(path, {"id": "item_id"})
    assert table_files.as_text(table, "id").to_pylist() == expected


LISTS = [["Bath", "Soap"], [], None, [["Bath", "Soap"], ["Bath", "Gifts"]], ["", None, "x"]]
JOINED = ["Bath, Soap", "", "", "Bath, Soap, Gifts", "x"]


def test_lists_are_joined(tmp_path):
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"id": 1, "x": v}) + "\n" for v in LISTS))
    assert table_files.texts(table_files.read(path, {"x": "text"}), "x") == JOINED
    plain = [n for n in range(5) if n != 3]  # a column of Parquet has one type
    path = write_parquet(tmp_path / "a.parquet", x=[LISTS[n] for n in plain], y=[LISTS[3]] * 4)
    table = table_files.read(path, {"x": "", "y": "text"})
    assert table_files.texts(table, "x") == [JOINED[n] for n in plain]
    assert table_files.texts(table, "y") == [JOINED[3]] * 4
    path = write_parquet(tmp_path / "a.parquet", x=[[1.0, 2.5], [7.0]])
    assert table_files.texts(table_files.read(path, {"x": "text"}), "x") == ["1, 2.5", "7"]


def test_long_values_and_other_line_ends_and_quotes_within(tmp_path):
    long = "x" * 200_000
    path = write(tmp_path / "a.csv", f'\ufeffid,title\r\n1,"{long}"\r\n2,5" nail\r\n')
    table = table_files.read(path, FLAGS)
    assert table_files.texts(table, "title") == [long, '5" nail']
    assert table_files.where(table, 1) == f"{path}:3"


HEADER = "id,title\n"
MANY = "".join(f"{n},some title that makes the file longer\n" for n in range(500_000))


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.csv", "", r"a.csv is empty: its first row must name the columns"),
        ("a.csv", "\n\n", r"a.csv is empty"),
        ("a.csv", HEADER, r"a.csv has no rows"),
        ("a.jsonl", "\n", r"a.jsonl has no rows"),
        ("a.csv", HEADER + "1,x\n\n2,y,z\n", r"a.csv:4: 3 fields, but the first row names 2 col"),
        ("a.tsv", "id\ttitle\n1\tx\n2\n", r"a.tsv:3: 1 fields, but the first row names 2 columns"),
        ("a.csv", HEADER + MANY + "7\n", r"a.csv:500002: 1 fields"),  # in a later block
        ("a.csv", HEADER + '1,"x\ny"\n2\n', r"a.csv:4: 1 fields"),
        (
            "a.csv",
            HEADER + '1,x\n2,"y\n3,z\n',
            r"a.csv:3: not CSV: unexpected end of data: put values that hold",
        ),
        ("a.csv", HEADER + '1,x\n2,"y\n3,z\n4,"w\n', r"a.csv:3: not CSV: ',' expected after '\"'"),
        ("a.csv.gz", HEADER + '1,x\n2,"y\n3,z\n', r"a.csv.gz:3: not CSV: unexpected end of data"),
        (
            "a.csv",
            (HEADER + MANY).encode() + b"7,\xff\n",
            r"a.csv:500002: not UTF-8: .*: save it as UTF-8",
        ),
        ("a.csv", HEADER.encode("utf-16"), r"a.csv:1: not UTF-8"),
        ("a.csv", HEADER.replace("\n", "\r") + "1,x\r", r"a.csv:1: not CSV: new-line"),
        ("a.jsonl", '{"id": 1, "title": "x"}\n\n{"id": 2\n', r"a.jsonl:3: not JSON"),
        ("a.jsonl", '{"id": 1, "title": "x"}\n[2]\n', r"a.jsonl:2: each line must be a JSON obj"),
        ("a.jsonl", '{"id": [1], "title": 2}\n', r"a.jsonl:1: id must be text or a number, not"),
        ("a.jsonl", '{"id": 1, "title": {}}\n', r"a.jsonl:1: a value is neither text .*: \{\}"),
        (
            "a.jsonl",
            '{"id": 1, "title": ["x", {}]}\n',
            r"a.jsonl:1: a value is neither text .*: \{\}",
        ),
        ("a.jsonl", r'{"id": 1, "title": "\ud800"}', r"a.jsonl:1: half a character: \\ud800 is"),
        ("a.jsonl", b'{"id": 1, "title": 1}\n{"id": "\xff"}', r"a.jsonl:2: not UTF-8"),
        ("a.jsonl", '{"id": ' + "1" * 5000 + "}", r"a.jsonl:1: a number has too many digits"),
        ("a.parquet", HEADER, r"a.parquet: not a Parquet file, or .*: write or copy it again"),
        ("a.csv", "id,title,title\n", r"a.csv has 2 columns title: rename one"),
        (
            "a.csv",
            "alpha,Titel,ID\n",
            r"a.csv has no column 'id': name it by --config.data.item_id, or both tables' columns "
            r"with a comma between, the items' first; its columns are ID, Titel, alpha$",
        ),
        ("a.jsonl", '{"id": 1}\n', r"no column 'title': name it by --config.data.text; its col"),
    ],
)
def test_mistakes(tmp_path, name, data, message):
    path = write(tmp_path / name, data)
    with pytest.raises(UserError, match=message):
        table_files.read(path, FLAGS)


def test_a_gzip_file_that_was_cut_off(tmp_path):
    path = write(tmp_path / "a.csv.gz", HEADER + MANY)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"a.csv.gz: damaged gzip file"):
        table_files.read(path, FLAGS)


def test_a_damaged_parquet_file(tmp_path):
    path = make(tmp_path, ".parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"my.table.parquet: not a Parquet file, or a damaged one"):
        table_files.read(path, FLAGS)


def test_text_of_parquet_that_is_not_utf_8(tmp_path):
    table = table_files.read(write_parquet(tmp_path / "a.parquet", id=[b"a", b"\xff"]), {"id": ""})
    remedy = "store it as one of these, text in UTF-8"
    with pytest.raises(
        UserError, match=rf"a\.parquet: id must be text or numbers: .*UTF8.*: {remedy}"
    ):
        table_files.as_text(table, "id")


@pytest.mark.parametrize(
    "value, text",
    [("a", "a"), (7, "7"), (7.0, "7"), (-2.5, "-2.5"), (True, "true")]
    + [(value, None) for value in ("", None, float("nan"), [], ["a"], {}, {"a": 1})],
)
def test_ids_are_text_or_numbers_that_are_not_empty(value, text):
    assert table_files.is_id(value) == (text is not None)
    if text is not None:
        assert table_files.value_as_text(value) == text


def test_columns_that_must_be_there(tmp_path):
    table_files.check_columns("a", ["x", "y", "z", "x"], ["z", "y"])
    with pytest.raises(
        UserError, match=r"a must have one column y and one column x; its .* y, x, "
    ):
        table_files.check_columns("a", ["x", "y", "z", "x"], ["y", "x"])


def test_parquet_without_a_column_or_with_something_else_in_it(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", id=[[1], [2]], title=pa.array([{"a": 1}] * 2))
    with pytest.raises(
        UserError, match=r"no column 'when': .* or leave it empty \(--config.data.ti"
    ):
        table_files.read(path, {"when": "time"})
    table = table_files.read(path, FLAGS)
    with pytest.raises(UserError, match=r"a.parquet: id must be text or numbers: "):
        table_files.as_text(table, "id")
    with pytest.raises(UserError, match=r"a.parquet: title must be text, not struct"):
        table_files.texts(table, "title")
    with pytest.raises(UserError, match=r"a.parquet has no rows"):
        table_files.read(write_parquet(path, id=pa.array([], pa.int64())), {"id": "item_id"})


def test_of_many_columns_the_nearest_are_named(tmp_path):
    path = write(tmp_path / "a.csv", ",".join(f"column{n}" for n in range(30)) + ",userId\n")
    with pytest.raises(UserError, match=r"columns are userId, (column\d+, ){9}\.\.\.$"):
        table_files.read(path, {"user_id": "user_id"})
