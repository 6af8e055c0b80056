"""From records to files and back."""

import numpy as np
import pytest

from genrec_jax.data import builder
from genrec_jax.data.records import Records, Source
from genrec_jax.errors import UserError

ITEMS = [{"item_id": "ä", "title": "Söap", "brand": "Acme"}, {"item_id": "b", "text": "bare"}]
USERS = [
    {"user_id": "u1", "items": [1, 0, 1], "times": [5, -1, 7]},
    {"user_id": "u2", "items": [], "times": []},
    {"user_id": "u3", "items": [0], "times": [2**40]},
]


def source(content_hash="abc", users=USERS):
    return Source("shop", content_hash, lambda: Records(iter(ITEMS), iter(users), {"fact": 0.25}))


def test_what_was_written_is_read(tmp_path):
    corpus = builder.load(builder.prepare(source(), tmp_path))
    assert corpus.item_ids == ["ä", "b"]
    assert corpus.titles == ["Söap", "bare"]  # an item without a title is called by its text
    assert corpus.texts == ["Title: Söap; Brand: Acme", "bare"]
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


def test_a_source_that_fails_leaves_nothing_behind(tmp_path):
    def users():
        yield USERS[0]
        raise UserError("line 2 is bad")

    with pytest.raises(UserError, match="line 2 is bad"):
        builder.prepare(source(users=users()), tmp_path)
    corpus = builder.load(builder.prepare(source(), tmp_path))
    assert len(corpus.user_ids) == 3


@pytest.mark.parametrize(
    "change", [{"items": [1]}, {"times": [0]}, {"user_id": "u4"}, {"items": [], "times": []}]
)
def test_records_that_were_exchanged_are_refused(tmp_path, change):
    path = builder.prepare(source(), tmp_path)
    other = builder.prepare(source("other", [*USERS[:2], USERS[2] | change]), tmp_path)
    (mine,), (theirs,) = path.glob("*users*array_record*"), other.glob("*users*array_record*")
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(UserError, match="the records of users are damaged"):
        builder.load(path)
