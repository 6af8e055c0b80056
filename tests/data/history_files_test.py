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


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"user_id": 1', r"h.jsonl:2: not JSON"),
        ('["u1", []]', r"h.jsonl:2: each line must be a JSON object with user_id and history"),
        ('{"user_id": 1}', r"h.jsonl:2: each line must be a JSON object with user_id and history"),
        ('{"user_id": null, "history": []}', r"h.jsonl:2: user_id must be a string or an integer"),
        ('{"user_id": 1, "history": "a b"}', r"h.jsonl:2: history must be a list of item ids"),
        ('{"user_id": 1, "history": [1.0]}', r"h.jsonl:2: history must be a list of item ids"),
        ('{"user_id": 1, "history": [true]}', r"h.jsonl:2: history must be a list of item ids"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, line, message):
    path = write(tmp_path / "h.jsonl", JSON_LINES.splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        read(path)


def test_mistakes_in_parquet(tmp_path):
    path = tmp_path / "h.parquet"
    with pytest.raises(UserError, match=r"h.parquet has no column history"):
        read(write_parquet(path, {"user_id": ["u"]}))
    with pytest.raises(UserError, match=r"h.parquet: row 2: history must be a list of item ids"):
        read(write_parquet(path, {"user_id": ["u", "v"], "history": [["a"], None]}))
    with pytest.raises(UserError, match=r"h.parquet: row 1: history must be a list of item ids"):
        read(write_parquet(path, {"user_id": ["u"], "history": ["a b"]}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"h.parquet: not a Parquet file that can be read"):
        read(path)


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path):
    with pytest.raises(UserError, match=r"no file .*nowhere.txt: give one by --config.histories"):
        read(tmp_path / "nowhere.txt")
    for name in ("h.csv", "h.csv.gz", "jsonl"):
        with pytest.raises(UserError, match=r"must end in .jsonl, .jsonl.gz, .txt, .txt.gz or .pa"):
            read(tmp_path / name)
