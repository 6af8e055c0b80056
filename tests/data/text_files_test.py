"""Lines and their numbers."""

import gzip

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
    with pytest.raises(UserError, match=r"a\.txt:5002: not UTF-8"):
        list(text_files.lines(path))


def test_damaged_gzip_files(tmp_path):
    packed = gzip.compress("".join(f"line {n}\n" for n in range(9999)).encode())
    for damaged in (packed[:-100], packed[:5000] + b"zzzzzzzz" + packed[5008:], b"a\n"):
        path = write(tmp_path / "a.txt.gz", damaged)
        with pytest.raises(UserError, match=r"a\.txt\.gz: damaged gzip file .*pack it again"):
            list(text_files.lines(path))
