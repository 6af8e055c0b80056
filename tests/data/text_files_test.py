"""Lines and their numbers."""

import gzip
import json

import pytest

from genrec_jax.data import text_files
from genrec_jax.errors import UserError


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_that_are_not_blank_keep_their_numbers(tmp_path, name):
    data = "\ufeffä\n\n  \r\nb\r\nc".encode()
    path = write(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data)
    assert list(text_files.lines(path)) == [(1, "ä\n"), (4, "b\r\n"), (5, "c")]
    assert list(text_files.all_lines(path)) == ["ä\n", "\n", "  \r\n", "b\r\n", "c"]


def test_a_line_that_is_not_text(tmp_path):
    path = write(tmp_path / "a.txt", b"a\n" * 5000 + b"\n\xff\n" + b"a\n" * 5000)
    with pytest.raises(UserError, match=r"a\.txt:5002: not UTF-8: .*: save it as UTF-8"):
        list(text_files.lines(path))


def test_lines_of_json(tmp_path):
    data = '\n{"a": [1, null, "\\ud83d\\ude00 ä"]}\n  \n"\\\\ud83d"\r\nNaN'
    found = list(text_files.json_lines(write(tmp_path / "a.jsonl", data.encode())))
    assert found[:2] == [(2, {"a": [1, None, "😀 ä"]}), (4, r"\ud83d")]
    assert found[2][0] == 5 and found[2][1] != found[2][1]
    deepest = "[" * 100 + "1" + "]" * 100
    wide = f"[{'[[]],' * 200}{deepest[1:-1]}]"
    for line in (deepest, wide, "1" * 4300):
        ((_, value),) = text_files.json_lines(write(tmp_path / "a.jsonl", line.encode()))
        assert value == json.loads(line)


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"a": ', "not JSON: .*: correct the line"),
        (r'{"a": "x \ud83d"}', r"half a character: \\ud83d is one of two .*: remove it"),
        (r'[[{"\uDE00": 1}]]', r"half a character: \\ude00 is"),
        (r'"\ude00\ud83d"', r"half a character: \\ude00 is"),
        ("[" + "1" * 4301 + "]", "a number has too many digits: shorten it, or write it as text"),
        ("[" * 101 + "]" * 101, "lists or objects in each other, over 100 deep: flatten them"),
        ('[{"a":' * 51 + "1" + "}]" * 51, "lists or objects in each other, over 100 deep"),
        ("[" * 100_000 + "]" * 100_000, "lists or objects in each other, over 100 deep"),
        ("[" * 900 + r'"\ud83d"' + "]" * 900, "half a character|lists or objects in each other"),
    ],
    ids=lambda text: text[:12],
)
def test_a_line_that_is_no_json_to_work_with(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", f"1\n\n{line}\n".encode())
    with pytest.raises(UserError, match=rf"a\.jsonl:3: {message}"):
        list(text_files.json_lines(path))


def test_damaged_gzip_files(tmp_path):
    packed = gzip.compress("".join(f"line {n}\n" for n in range(9999)).encode())
    for damaged in (packed[:-100], packed[:5000] + b"zzzzzzzz" + packed[5008:], b"a\n"):
        path = write(tmp_path / "a.txt.gz", damaged)
        with pytest.raises(UserError, match=r"a\.txt\.gz: damaged gzip file .*pack it again"):
            list(text_files.lines(path))


@pytest.mark.parametrize(
    "line, expected",
    [
        (b'{"a": [1, null], "\\u00e4": true}', {"a": [1, None], "ä": True}),
        (
            "{'ä': 'it\\'s', \"b\": [None, 1.5, True]}\r\n".encode(),
            {"ä": "it's", "b": [None, 1.5, 1]},
        ),
        (rb"{'a': 'a \/ b'}", {"a": r"a \/ b"}),  # Python warns of this escape, and means it
    ],
)
def test_a_record_of_json_or_as_python_prints_it(line, expected):
    assert text_files.parse_record(line) == expected


@pytest.mark.parametrize(
    "line, message",
    [
        (b"{'a': __import__('os')}", "not a literal of Python: "),
        (b"{'a': 2**9}", "not a literal of Python: "),
        (b"{'a': " + b"-" * 10**5 + b"1}", "not a literal of Python: "),
        (b"{'a': " + b"(" * 150 + b")" * 150 + b"[" * 101 + b"]" * 101 + b"}", "not a literal"),
        (b"{'a': 'x', 'b'}", "not a literal of Python: "),
        (b"{'a': '\x00'}", "not a literal of Python: "),
        (b'{"a": NaN', "not JSON: "),
        (b"3", "not an object of JSON"),
        (b"\xff", "not UTF-8: "),
    ],
)
def test_a_line_that_is_no_record(line, message):
    with pytest.raises(ValueError, match=message):
        text_files.parse_record(line)


def test_bad_lines_up_to_a_limit(caplog):
    bad_lines = text_files.BadLines(1)
    bad_lines.add("f", 3, "no good")
    assert "f:3: no good: left out" in caplog.text
    with pytest.raises(UserError, match=r"^f:9: worse: .* by --config.data.max_bad_lines=2$"):
        bad_lines.add("f", 9, "worse")
    assert bad_lines.num == 2


def test_blocks_are_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", 4)
    path = write(tmp_path / "a.gz", gzip.compress(b"\xef\xbb\xbfab\n\ncdefghi\nj\nk"))
    blocks = list(text_files.blocks(path))
    assert b"".join(block for _, block in blocks) == b"ab\n\ncdefghi\nj\nk"
    assert all(block.endswith(b"\n") for _, block in blocks[:-1])
    numbered = [line for block in blocks for line in text_files.numbered_lines(*block)]
    assert numbered == [(1, b"ab"), (3, b"cdefghi"), (4, b"j"), (5, b"k")]
    assert list(text_files.binary_lines(path)) == numbered


@pytest.mark.parametrize(
    "line",
    [
        r"""{u'a': u'It\'s \u00e9', 'b': "u'a': 'no', ", u'c': -1.5e-3, 'd': True, 'e': None}""",
        r"""{'a': 'x\\', 'b': 2, 'a': "later \" counts"}""",
        "{'b': [1, 'a'], 'a': {'b': 2}}",  # these are read whole
        "{'a' : 1}",
        '{"a": 1, "b": [2]}',
        "{'a': '\ufffd', 'b': ''}",
        r"{u'a': u'\ud83d\ude00', u'b': u'\\ud83d'}",
    ],
)
def test_some_fields_are_those_of_the_whole(line):
    whole = text_files.parse_record(line.encode())
    for names in ("a", "ab", "bz"):
        found = text_files.parse_fields(line.encode(), tuple(names))
        assert {name: found.get(name) for name in names} == {
            name: whole.get(name) for name in names
        }


@pytest.mark.parametrize(
    "line", ["{'a': x}", "{'a': 1", "{'a': 1} + 2", "{'a': 'b' 'c'", "{'a': f()}"]
)
def test_what_is_no_dictionary_has_no_fields(line):
    with pytest.raises(ValueError, match="not a literal of Python"):
        text_files.parse_fields(line.encode(), ("z",))


def test_python_2_may_have_printed_a_character_as_two_codes():
    line = rb"{u'a': u'\ud83d\ude00 \\ud83d', u'b': [u'\uD83D\uDE00']}"
    assert text_files.parse_record(line) == {"a": "\U0001f600 \\ud83d", "b": ["\U0001f600"]}
    for line in (rb"{u'a': u'\ud83d'}", rb"{u'a': u'\ude00\ud83d'}", rb"{u'a': [u'\ude00']}"):
        with pytest.raises(ValueError, match="half a character"):
            text_files.parse_fields(line, ("a",))
