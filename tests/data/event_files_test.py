"""Events by blocks of whole lines, however they are cut."""

import numpy as np
import pyarrow as pa
import pytest

from genrec_jax.data import event_files, text_files
from genrec_jax.errors import UserError

NAMES = ["user", "item", "rating", "time"]
ORDER = ("user", "item", "time", "rating")


def read(paths, limit=0, delimiter=",", id_type=None, num_header_lines=0):
    form = event_files.csv_format(
        NAMES, ORDER, delimiter, id_type=id_type or pa.string(), num_header_lines=num_header_lines
    )
    return event_files.read(paths, form, text_files.BadLines(limit))


def rows_of(columns):
    users = columns.user_names.take(pa.array(columns.users)).to_pylist()
    items = columns.item_names.take(pa.array(columns.items)).to_pylist()
    return list(zip(users, items, columns.times.tolist(), strict=True))


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("end", ["\n", ""])
def test_any_blocks_give_the_same_events(tmp_path, monkeypatch, block_bytes, end):
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    rows = [(f"u{rng.integers(9)}", f"i{rng.integers(9)}", n) for n in range(40)]
    lines = [f"{user},{item},1,{time}" for user, item, time in rows]
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    parts[0].write_text("\ufeffuser,item,rating,time\n" + "\n".join(lines[:25]) + "\n")
    parts[1].write_text("user,item,rating,time\n\n" + "\n".join(lines[25:]) + end)
    columns = read(parts, num_header_lines=1)
    assert rows_of(columns) == rows
    firsts = list(dict.fromkeys(user for user, _, _ in rows))
    assert columns.user_names.to_pylist() == firsts
    assert (columns.users.dtype, columns.times.dtype) == (np.int32, np.int64)

    parts[1].write_text("user,item,rating,time\n" + "\n".join([*lines[25:30], "x", *lines[30:]]))
    with pytest.raises(UserError, match=r"b.csv:7: 1 fields, not 4: user, item, rating, time"):
        read(parts, num_header_lines=1)
    assert rows_of(read(parts, limit=1, num_header_lines=1)) == rows


def test_whole_numbers_are_compared_as_such(tmp_path):
    path = tmp_path / "r.dat"
    path.write_text("007::1::5::3\n7::1::4::4\n")
    assert rows_of(read([path], delimiter="::", id_type=pa.int64())) == [
        ("7", "1", 3),
        ("7", "1", 4),
    ]
    assert rows_of(read([path], delimiter="::"))[0] == ("007", "1", 3)


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes(b"u,i,1,3\n\xff,i,1,4\n")
    with pytest.raises(UserError, match=r"r.csv:2: user must be text in UTF-8"):
        read([path])


def test_several_objects_in_a_line_are_one_bad_line(tmp_path):
    path = tmp_path / "r.jsonl"
    line = '{"u": "a", "i": "b", "t": 5}'
    path.write_text(f"{line}\n{line}{line}\n\n{line}\n")
    form = event_files.json_format("u", "i", "t")
    with pytest.raises(UserError, match=r"r.jsonl:2: not JSON: Extra data"):
        event_files.read([path], form, text_files.BadLines(0))
    columns = event_files.read([path], form, text_files.BadLines(1))
    assert rows_of(columns) == [("a", "b", 5)] * 2
    events = columns.events(per_second=2)
    assert (events.exact_times.tolist(), events.seconds.tolist()) == ([5, 5], [2, 2])
