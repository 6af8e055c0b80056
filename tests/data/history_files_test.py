"""Files of histories and their mistakes."""

import gzip
import json

import pyarrow
import pytest
from pyarrow import parquet

from genrec_jax.data import history_files
from genrec_jax.errors import UserError

RECORDS = [{"user_id": "u1", "history": ["a", "7"]}, {"user_id": 2, "history": []}]
EXPECTED = [("u1", ["a", "7"]), ("2", [])]
JSON_LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def read(path):
    return list(history_files.read(path))


def write(path, data):
    path.write_bytes(data.encode())
    return path


def write_parquet(path, columns):
    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("name, text", [("h.jsonl", JSON_LINES), ("h.v2.txt", "u1 a 7\n2\n")])
def test_lines_of_text(tmp_path, name, text):
    path = write(tmp_path / name, text)
    assert read(path) == [(f"{path}:{line}", *row) for line, row in enumerate(EXPECTED, start=1)]
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert [(user, items) for _, user, items in read(packed)] == EXPECTED


def test_blank_lines_are_nothing_and_other_fields_are_left(tmp_path):
    path = write(tmp_path / "a.jsonl", '\n{"history": [3], "user_id": "x", "more": null}\n')
    assert read(path) == [(f"{path}:2", "x", ["3"])]
    assert read(write(tmp_path / "b.jsonl", "")) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"user_id": ["u1", "2"], "history": [["a", "7"], []]},
        {"history": [["a", "7"], []], "user_id": pyarrow.array(["u1", "2"]).dictionary_encode()},
    ],
)
def test_parquet(tmp_path, columns):
    path = write_parquet(tmp_path / "h.parquet", columns | {"more": [1, 2]})
    assert read(path) == [(f"{path}: row {row}", *rest) for row, rest in enumerate(EXPECTED, 1)]


def test_parquet_of_integers(tmp_path):
    path = write_parquet(tmp_path / "h.parquet", {"user_id": [5], "history": [[7, 8]]})
    assert read(path) == [(f"{path}: row 1", "5", ["7", "8"])]


@pytest.mark.parametrize("kind", [pyarrow.list_, pyarrow.large_list, lambda t: pyarrow.list_(t, 2)])
def test_ids_in_parquet_are_written_as_in_tables(tmp_path, kind):
    history = pyarrow.array([[7.0, 12345678.0], [2.5, 0.0]], kind(pyarrow.float64()))
    path = write_parquet(tmp_path / "h.parquet", {"user_id": [5.0, 6.5], "history": history})
    assert read(path) == [
        (f"{path}: row 1", "5", ["7", "12345678"]),
        (f"{path}: row 2", "6.5", ["2.5", "0"]),
    ]


def test_ids_in_json_are_written_as_in_tables(tmp_path):
    path = write(tmp_path / "h.jsonl", '{"user_id": 5.0, "history": [7.0, 2.5, "7.0"]}')
    assert read(path) == [(f"{path}:1", "5", ["7", "2.5", "7.0"])]


def test_the_rows_of_many_batches_are_counted_on(tmp_path):
    rows = 70_000
    columns = {"user_id": list(range(rows)), "history": [[row, 1] for row in range(rows)]}
    path = write_parquet(tmp_path / "h.parquet", columns)
    found = read(path)
    assert len(found) == rows
    assert found[-1] == (f"{path}: row {rows}", f"{rows - 1}", [f"{rows - 1}", "1"])


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"user_id": 1', r"h.jsonl:2: not JSON"),
        ('["u1", []]', r"h.jsonl:2: each line must be a JSON object with user_id and history"),
        ('{"user_id": 1}', r"h.jsonl:2: each line must be a JSON object with user_id and history"),
        (
            '{"user_id": null, "history": []}',
            r"h.jsonl:2: user_id must be text or a number, not None",
        ),
        ('{"user_id": "", "history": []}', r"h.jsonl:2: user_id must be text or a number, not ''"),
        ('{"user_id": [1], "history": []}', r"h.jsonl:2: user_id must be text or a number, not \["),
        (r'{"user_id": "\ud83d", "history": []}', r"h.jsonl:2: half a character: \\ud83d"),
        (r'{"user_id": 1, "history": ["a\ude00"]}', r"h.jsonl:2: half a character: \\ude00"),
        ('{"user_id": ' + "1" * 5000 + "}", r"h.jsonl:2: a number has too many digits"),
        ('{"user_id": 1, "history": "a b"}', r"h.jsonl:2: history must be a list of item ids"),
        ('{"user_id": 1, "history": [[1]]}', r"h.jsonl:2: history must be a list of item ids"),
        ('{"user_id": 1, "history": [null]}', r"h.jsonl:2: history must be a list of item ids"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, line, message):
    path = write(tmp_path / "h.jsonl", JSON_LINES.splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        read(path)


def test_mistakes_in_parquet(tmp_path):
    path = tmp_path / "h.parquet"
    with pytest.raises(
        UserError, match=r"h.parquet must have one column user_id and one column hi"
    ):
        read(write_parquet(path, {"user_id": ["u"]}))
    with pytest.raises(UserError, match=r"h.parquet: row 2: user_id must be text or a number"):
        read(write_parquet(path, {"user_id": ["u", None], "history": [["a"], []]}))
    with pytest.raises(UserError, match=r"h.parquet: row 2: history must be a list of item ids"):
        read(write_parquet(path, {"user_id": ["u", "v"], "history": [["a"], ["b", None]]}))
    with pytest.raises(UserError, match=r"h.parquet: row 2: history must be a list of item ids"):
        read(write_parquet(path, {"user_id": ["u", "v"], "history": [["a"], None]}))
    with pytest.raises(
        UserError, match=r"h.parquet: history must be a list of item ids, not string"
    ):
        read(write_parquet(path, {"user_id": ["u"], "history": ["a b"]}))
    with pytest.raises(UserError, match=r"h.parquet: history must be text or numbers: .*cast"):
        read(write_parquet(path, {"user_id": ["u"], "history": [[["a"]]]}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"h.parquet: not a Parquet file, or a damaged one"):
        read(path)


def test_parquet_that_is_damaged_within(tmp_path):
    path = tmp_path / "h.parquet"
    columns = {"user_id": ["user u"], "history": [["item a"]]}
    parquet.write_table(
        pyarrow.table(columns),
        path,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        write_statistics=False,
    )
    whole = path.read_bytes()
    assert whole.count(b"item a") == 1
    for old, new in ((b"item a", b"item b"), (b"history", b"histor\xff")):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(UserError, match=r"h.parquet: not a Parquet file, or a damaged one"):
            read(path)
    path = write_parquet(path, {"user_id": [b"\xff"], "history": [["a"]]})
    with pytest.raises(UserError, match=r"h.parquet: user_id must be text or numbers: .*UTF8"):
        read(path)


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path):
    with pytest.raises(UserError, match=r"no file .*nowhere.txt: give one by --config.histories"):
        read(tmp_path / "nowhere.txt")
    for name in ("h.csv", "h.csv.gz", "jsonl"):
        with pytest.raises(UserError, match=r"must end in .jsonl, .jsonl.gz, .txt, .txt.gz or .pa"):
            read(tmp_path / name)
