"""From records to files and back."""

import dataclasses
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from genrec_jax import files
from genrec_jax.data import builder
from genrec_jax.data.records import Records, Source
from genrec_jax.errors import UserError

ITEMS = [
    {"item_id": "ä", "title": "Söap", "brand": "Acme", "categories": [["Bäth", "Soap"], ["Gifts"]]},
    {"item_id": "b", "text": "bare"},
    {"item_id": "c", "title": "Box", "categories": [[], ["Gifts"]]},
]
USERS = [
    {"user_id": "u1", "items": [1, 0, 1], "times": [5, -1, 7]},
    {"user_id": "u2", "items": [], "times": []},
    {"user_id": "u3", "items": [0], "times": [2**40]},
]


def source(content_hash="abc", users=USERS):
    return Source("shop", content_hash, lambda: Records(iter(ITEMS), iter(users), {"fact": 0.25}))


def test_what_was_written_is_read(tmp_path):
    corpus = builder.load(builder.prepare(source(), tmp_path))
    assert corpus.item_ids == ["ä", "b", "c"]
    assert corpus.titles == ["Söap", "bare", "Box"]  # an item without a title is called by its text
    assert corpus.texts == [
        "Title: Söap; Brand: Acme; Categories: Bäth, Soap, Gifts",
        "bare",
        "Title: Box; Categories: Gifts",
    ]
    assert corpus.categories == [("Bäth", "Soap"), (), ("Gifts",)]  # the first path with names
    assert corpus.user_ids == ["u1", "u2", "u3"]
    np.testing.assert_array_equal(corpus.items, [1, 0, 1, 0])
    np.testing.assert_array_equal(corpus.offsets, [0, 3, 3, 4])
    np.testing.assert_array_equal(corpus.times, [5, -1, 7, 2**40])
    assert corpus.facts == {"fact": 0.25}


def test_without_times(tmp_path):
    users = [user | {"times": []} for user in USERS]
    assert builder.load(builder.prepare(source(users=users), tmp_path)).times is None


def test_a_prepared_set_is_not_prepared_again(tmp_path):
    path = builder.prepare(source(), tmp_path)

    def explode():
        raise AssertionError("read again")

    assert builder.prepare(Source("shop", "abc", explode), tmp_path) == path
    assert builder.prepare(source("other"), tmp_path) != path


def failing_users(error):
    yield USERS[0]
    raise error


@pytest.mark.parametrize("error", [UserError("line 2 is bad"), KeyError("a defect")])
def test_a_source_that_fails_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(type(error)) as raised:
        builder.prepare(source(users=failing_users(error)), tmp_path)
    assert raised.value.args[0] == error.args[0]
    assert list(tmp_path.iterdir()) == []
    corpus = builder.load(builder.prepare(source(), tmp_path))
    assert len(corpus.user_ids) == 3


def test_what_is_written_aside_is_removed(tmp_path):
    path = builder.prepare(source(), tmp_path)
    assert sorted(tmp_path.rglob("*")) == sorted(
        [path.parents[1], path.parent, path, *path.iterdir()]
    )


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def exchange(path):
    """Puts a whole file of another data set there."""
    users = [*USERS[:2], {"user_id": "u4", "items": [1, 1], "times": [3, 4]}]
    items = [*ITEMS[:1], {"item_id": "c"}]
    other = Source("other", "abc", lambda: Records(iter(items), iter(users), {"fact": 0.75}))
    folder = builder.prepare(other, path.parents[3] / "elsewhere")
    if path.name == "features.json":  # all data sets have the same
        (folder / path.name).write_text("{}")
    shutil.copyfile(folder / path.name, path)


def assert_equal(corpus, other):
    for field in dataclasses.fields(corpus):
        if field.name != "splits":
            np.testing.assert_equal(getattr(corpus, field.name), getattr(other, field.name))


@pytest.mark.parametrize("damage", [pathlib.Path.unlink, cut, empty, flip, exchange])
def test_a_damaged_data_set_is_prepared_again(tmp_path, caplog, damage):
    path = builder.prepare(source(), tmp_path / "prepared")
    whole = builder.load(path)
    names = sorted(file.name for file in path.iterdir())
    assert len(names) == 6 and files.DIGESTS in names
    for name in names:
        damage(path / name)
        caplog.clear()
        assert builder.prepare(source(), tmp_path / "prepared") == path
        (message,) = [r.message for r in caplog.records if r.name == builder.__name__]
        assert message.startswith(str(path))
        assert message.endswith(": preparing the data set again")
        wrong = "missing" if damage is pathlib.Path.unlink else "damaged"
        if name != files.DIGESTS:  # a flipped bit in it is taken for damage of another file
            assert f"{path / name} is {wrong}: " in message
        assert_equal(builder.load(path), whole)
        assert files.damage(path) is None
        assert list((tmp_path / "prepared").glob(".*")) == []


def test_an_empty_folder_is_filled(tmp_path):
    path = builder.prepare(source(), tmp_path)
    shutil.rmtree(path)
    path.mkdir()
    assert builder.load(builder.prepare(source(), tmp_path)).user_ids == ["u1", "u2", "u3"]


MEANWHILE = """
import pathlib, sys, time
from genrec_jax.data import builder
from genrec_jax.data.records import Records, Source

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]


def read():  # both have found nothing whole, and go on when the other has, too
    (folder / name).touch()
    while not ((folder / "a").exists() and (folder / "b").exists()):
        time.sleep(0.01)
    users = [{"user_id": f"u{n}", "items": [0], "times": []} for n in range(1000)]
    return Records([{"item_id": "i", "title": "Soap"}], users, {})


corpus = builder.load(builder.prepare(Source("shop", "abc", read), folder / "prepared"))
print(len(corpus.user_ids))
"""


@pytest.mark.parametrize("is_damaged", [False, True])
def test_two_runs_at_once(tmp_path, is_damaged):
    if is_damaged:
        cut(builder.prepare(source(), tmp_path / "prepared") / "metadata.json")
    root = pathlib.Path(__file__).parents[2]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", MEANWHILE, tmp_path, name],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert (run.returncode, out) == (0, "1000\n"), err
    (path,) = (tmp_path / "prepared").glob("corpus/*/*")
    assert files.damage(path) is None
    assert [file.name for file in (tmp_path / "prepared").iterdir()] == ["corpus"]


def test_what_another_run_has_put_there_meanwhile_is_used(tmp_path):
    path = builder.prepare(source(), tmp_path)
    other, place = path.parent / "other", path.parent / "place"
    shutil.copytree(path, other)
    shutil.copytree(path, place)
    (place / "mark").touch()
    builder._put(other, place, tmp_path)
    assert (place / "mark").exists()
    flip(place / "features.json")
    builder._put(other, place, tmp_path)
    assert not (place / "mark").exists() and files.damage(place) is None
