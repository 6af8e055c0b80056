"""Files that are whole or absent."""

import hashlib
import resource

import numpy as np
import pytest

from genrec_jax import files


def test_json_there_and_back(tmp_path):
    files.write_json(tmp_path / "new" / "a.json", {"x": [1, "é"]})
    assert files.read_json(tmp_path / "new" / "a.json") == {"x": [1, "é"]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", object())
    assert files.read_json(tmp_path / "a.json") == 1


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    files.write_atomically(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # like a full disk
    try:
        with pytest.raises(OSError):
            files.write_atomically(path, b"new" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    files.write_atomically(path, b"new" * 10_000)
    assert path.read_bytes() == b"new" * 10_000
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_file_is_replaced_once_all_is_written(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.replacing(path) as partial, partial.open("w") as file:
        file.write("one")
        assert partial.parent == path.parent and not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ValueError, match="half way"), files.replacing(path) as partial:
        partial.write_text("two")
        raise ValueError("half way")
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_checksums(tmp_path):
    files.write_atomically(tmp_path / "a", b"abc")
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_the_hash_of_a_folder_covers_names_and_contents(tmp_path):
    def of(**contents):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        for name, text in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return files.sha256_of_folder(folder)

    first = of(a="1", **{"b/c": "2"})
    assert first == of(**{"b/c": "2"}, a="1", **{".git/index": "3"})
    others = [of(a="2", **{"b/c": "2"}), of(a="1", c="2"), of(a="1"), of()]
    assert len({first, *others}) == 5


def test_a_digest_covers_shape_type_and_contents():
    plain = files.digest(np.zeros((2, 3), np.int32))
    assert plain == files.digest(np.zeros((3, 2), np.int32).T.copy())
    others = [np.zeros((3, 2), np.int32), np.zeros((2, 3), np.float32), np.ones((2, 3), np.int32)]
    assert len({plain, *map(files.digest, others)}) == 4


def test_dicts_in_dicts_as_one():
    assert files.flatten({"a": 1, "b": {"c": (2,), "d": {"e": None}}, "f": {}}) == {
        "a": 1,
        "b.c": (2,),
        "b.d.e": None,
    }
