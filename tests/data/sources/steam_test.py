"""Reviews of games on Steam, made here as Python 2 prints dictionaries."""

import ast
import gzip
import json

import pytest

from genrec_jax.data.sources import steam
from genrec_jax.errors import UserError


def printed(record):
    """Returns the record as Python 2 prints it, in its own way of escaping all but ASCII."""

    def value(entry):
        if isinstance(entry, list):
            return f"[{', '.join(map(value, entry))}]"
        return f"u{entry!a}" if isinstance(entry, str) else repr(entry)

    return f"{{{', '.join(f'u{key!r}: {value(entry)}' for key, entry in record.items())}}}"


def review(username, product_id, date):
    record = {"username": username, "hours": 0.1, "products": 41, "product_id": product_id}
    text = "It's \"fine\", u'date': u'2000-01-01'\r\n"
    return printed(record | {"page_order": 0, "date": date, "text": text, "early_access": False})


REVIEWS = [
    review("Chaos 'Syren'", "10", "2017-12-17"),
    review("Zoë", "20", "2016-01-02"),
    review("Chaos 'Syren'", "20", "2017-12-17"),
    review("Chaos 'Syren'", "30", "2015-01-01"),  # of a game that is not in the list
    review("Chaos 'Syren'", "20", "2014-02-03"),
]
GAMES = [
    printed({"title": "No Id", "genres": ["Action"], "price": 4.99}),
    printed(
        {
            "publisher": "P",
            "genres": ["Action", "Indie"],
            "app_name": "Ten",
            "title": "Ten\u2122",
            "tags": ["Indie", "Retro"],
            "price": "Free To Play",
            "early_access": False,
            "id": "10",
            "developer": "Dee & Co",
        }
    ),
    printed({"app_name": "Twenty", "id": "20", "specs": ["Co-op"]}),
    printed({"app_name": "Twenty again", "id": "20"}),
]


def write(folder, reviews=REVIEWS, games=GAMES):
    for name, lines in (("reviews", reviews), ("games", games)):
        data = gzip.compress("".join(line + "\n" for line in lines).encode())
        (folder / f"steam_{name}.json.gz").write_bytes(data)
    return str(folder)


def read(folder, max_bad_lines=0):
    records = steam.source(folder, "files", k_core=0, max_bad_lines=max_bad_lines).read()
    return records._replace(users={user["user_id"]: user for user in records.users})


def test_reviews_and_games(tmp_path):
    records = read(write(tmp_path))
    assert records.items == [
        {
            "item_id": "10",
            "title": "Ten\u2122",
            "categories": [["Action", "Indie"]],
            "text": "Title: Ten\u2122; Developer: Dee & Co; Genres: Action, Indie; Tags: Indie, "
            "Retro",
        },
        {"item_id": "20", "title": "Twenty", "categories": [[]], "text": "Title: Twenty"},
    ]
    assert list(records.users) == ["Chaos 'Syren'", "Zoë"]
    assert records.users["Chaos 'Syren'"]["items"] == [1, 0, 1]
    assert records.users["Chaos 'Syren'"]["times"] == [1391385600, 1513468800, 1513468800]
    assert records.users["Zoë"]["items"] == [1]
    assert records.facts["data/num_events_of_unknown_items"] == 1


def test_lines_of_json_are_read_alike(tmp_path):
    expected = read(write(tmp_path))
    rows = [json.dumps(ast.literal_eval(line)) for line in REVIEWS]
    assert read(write(tmp_path, rows)) == expected


def test_a_bad_line_is_named(tmp_path):
    folder = write(
        tmp_path, [REVIEWS[0], "{u'username': u'Ann', u'date': open('x')}", *REVIEWS[1:]]
    )
    with pytest.raises(UserError, match=r"steam_reviews.json.gz:2: not a literal of Python"):
        read(folder)
    assert read(folder, max_bad_lines=1).facts["data/num_bad_lines"] == 1


def test_where_it_is(tmp_path):
    assert not steam.is_in(str(tmp_path))
    assert steam.is_in(write(tmp_path))
