"""The compact format and its mistakes."""

import gzip
import json

import pytest

from genrec_jax.data.sources import files
from genrec_jax.errors import UserError

ITEMS = [
    {"item_id": "a", "title": "Soap", "brand": "Acme", "categories": [["Bath", "Soap"]]},
    {"item_id": 7, "title": None},
    {"item_id": "c", "text": "read me"},
]


def write(folder, items=ITEMS, sequences="u1 a 7 c\nu2 c\n", times=None, gz=False):
    def put(name, text):
        data = text.encode()
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)

    put("items.jsonl", "".join(json.dumps(item) + "\n" for item in items))
    put("sequences.txt", sequences)
    if times is not None:
        put("timestamps.txt", times)
    return files.source(str(folder), "shop")


def read(source):
    records = source.read()
    return list(records.items), list(records.users)


@pytest.mark.parametrize("gz", [False, True])
def test_items_and_users(tmp_path, gz):
    items, users = read(write(tmp_path, times="u1 3 -1 9\nu2 5\n", gz=gz))
    assert items == [ITEMS[0], {"item_id": "7"}, ITEMS[2]]
    assert users == [
        {"user_id": "u1", "items": [0, 1, 2], "times": [3, -1, 9]},
        {"user_id": "u2", "items": [2], "times": [5]},
    ]


def test_times_are_optional_and_blank_lines_are_nothing(tmp_path):
    _, users = read(write(tmp_path, sequences="\nu1 a\n\nu2\n"))
    assert users == [
        {"user_id": "u1", "items": [0], "times": []},
        {"user_id": "u2", "items": [], "times": []},
    ]


def test_whole_ids_that_are_stored_as_floats_are_those_that_are_not(tmp_path):
    items, users = read(write(tmp_path, [{"item_id": 7.0}, {"item_id": 2.5}], "u 7 2.5\n"))
    assert [item["item_id"] for item in items] == ["7", "2.5"]
    assert users[0]["items"] == [0, 1]


def test_the_hash_changes_with_the_contents(tmp_path):
    first = write(tmp_path)
    assert first.content_hash == write(tmp_path).content_hash
    assert first.content_hash != write(tmp_path, sequences="u1 a\n").content_hash
    assert first.content_hash != write(tmp_path, times="u1 1 2 3\nu2 4\n").content_hash


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"items": [{"title": "x"}]}, r"items.jsonl:1: each line must be .* item_id"),
        ({"items": [[1]]}, r"items.jsonl:1: each line must be a JSON object"),
        ({"items": [{"item_id": "a"}] * 2}, r"items.jsonl:2: item_id a was already on line 1"),
        ({"items": [{"item_id": "a", "title": 3}]}, r"items.jsonl:1: title must be a string"),
        ({"items": [{"item_id": "a", "categories": ["x"]}]}, r"items.jsonl:1: categories must be"),
        ({"items": [{"item_id": [1]}]}, r"items.jsonl:1: item_id must be text or a number, not \["),
        ({"items": [{"item_id": ""}]}, r"items.jsonl:1: item_id must be text or a number, not ''"),
        ({"items": [{"item_id": "a", "title": "\ud83d"}]}, r"items.jsonl:1: half a character: "),
        ({"items": []}, r"items.jsonl: no items"),
        ({"sequences": "u1 a\nu2 a zz\n"}, r"sequences.txt:2: item zz is not in items.jsonl"),
        ({"sequences": "u1 a\n\nu1 c\n"}, r"sequences.txt:3: user u1 was already on line 1"),
        ({"sequences": "\n"}, r"sequences.txt: no users"),
        ({"times": "u1 1 2 3\n"}, r"timestamps.txt: no line for user u2"),
        ({"times": "u1 1 2\nu2 4\n"}, r"timestamps.txt:1: expected user u1 with 3 times, found"),
        ({"times": "u2 4\nu1 1 2 3\n"}, r"timestamps.txt:1: expected user u1 .* found user u2"),
        ({"times": "u2 1 2 3\nu1 4\n"}, r"timestamps.txt:1: .* found user u2 with 3"),
        ({"times": "u1 1 x 3\nu2 4\n"}, r"timestamps.txt:1: times must be whole numbers"),
        ({"times": f"u1 1 {2**63} 3\nu2 4\n"}, r"timestamps.txt:1: times must be whole numbers of"),
        ({"times": "u1 1 2 3\nu2 4\nu3 5\n"}, r"timestamps.txt:3: more lines than sequences.txt"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, changes, message):
    source = write(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        read(source)


def test_a_line_that_is_not_json(tmp_path):
    source = write(tmp_path)
    (tmp_path / "items.jsonl").write_text('{"item_id": "a"}\n{"item_id":\n')
    with pytest.raises(UserError, match=r"items.jsonl:2: not JSON"):
        read(source)


def test_a_file_that_is_not_text(tmp_path):
    source = write(tmp_path)
    (tmp_path / "sequences.txt").write_bytes(b"u1 a\n\nu2 \xff\nu3 a\n")
    with pytest.raises(UserError, match=r"sequences.txt:3: not UTF-8"):
        read(source)


def test_a_byte_order_mark_and_other_line_ends_are_nothing(tmp_path):
    source = write(tmp_path)
    (tmp_path / "sequences.txt").write_bytes(b"\xef\xbb\xbfu1 a 7\r\nu2 c\r\n")
    _, users = read(source)
    assert [(user["user_id"], user["items"]) for user in users] == [("u1", [0, 1]), ("u2", [2])]


def test_a_gzip_file_that_was_cut_off(tmp_path):
    source = write(tmp_path, sequences="".join(f"u{n} a c 7\n" for n in range(2000)), gz=True)
    path = tmp_path / "sequences.txt.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"sequences.txt.gz: damaged gzip file"):
        read(source)


def test_missing_folders_and_files(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere: .*--config.data.dir"):
        files.source(str(tmp_path / "nowhere"), "shop")
    with pytest.raises(UserError, match=r"has no items.jsonl or items.jsonl.gz"):
        files.source(str(tmp_path), "shop")
    (tmp_path / "items.jsonl").write_text('{"item_id": "a"}\n')
    with pytest.raises(UserError, match=r"has no sequences.txt"):
        files.source(str(tmp_path), "shop")
