"""The Yelp Open Dataset, made here in its format."""

import gzip
import json

import pytest

from genrec_jax.data.sources import yelp
from genrec_jax.errors import UserError

REVIEWS, BUSINESSES = "yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"


def review(user, business, date):
    record = {"review_id": "r", "user_id": user, "business_id": business, "stars": 4.0, "useful": 0}
    return json.dumps(record | {"text": 'Good "pie"\n\nAgain!', "date": date})


def business(business_id, **fields):
    record = {"business_id": business_id, "name": "Pie & Co", "address": "1 Main St", "stars": 4.5}
    return json.dumps(record | {"attributes": {"WiFi": "u'no'"}, "hours": None} | fields)


LINES = {
    REVIEWS: [
        review("v", "b1", "2018-07-07 22:09:11"),
        review("u", "b2", "2012-01-03 15:28:18"),
        review("v", "b2", "2011-12-19"),
        review("v", "lacking", "2012-01-01"),
        review("v", "b1", "2018-07-07 22:09:11"),  # again
    ],
    BUSINESSES: [
        business("b2", categories=["Food", "Bakeries"], city="Phoenix", state="AZ"),
        business("unvisited", categories="Food"),
        business("b1", name="Fé", categories="Pizza, Pasta Shops, Pizza", city="Tampa", state="FL"),
        business("b3", categories=None),
    ],
}


def write(folder, lines=LINES, suffix=""):
    for name, rows in lines.items():
        text = "".join(row + "\n" for row in rows)
        with (gzip.open if suffix else open)(folder / f"{name}{suffix}", "wt") as file:
            file.write(text)
    return str(folder)


def read(folder, k_core=0, max_bad_lines=0):
    records = yelp.source(folder, "files", k_core=k_core, max_bad_lines=max_bad_lines).read()
    return records._replace(users={user["user_id"]: user for user in records.users})


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reviews_and_businesses(tmp_path, suffix):
    records = read(write(tmp_path, suffix=suffix))
    assert records.items == [
        {
            "item_id": "b2",
            "title": "Pie & Co",
            "categories": [["Food", "Bakeries"]],
            "text": "Title: Pie & Co; Categories: Food, Bakeries; City: Phoenix; State: AZ",
        },
        {
            "item_id": "b1",
            "title": "Fé",
            "categories": [["Pizza", "Pasta Shops", "Pizza"]],
            "text": "Title: Fé; Categories: Pizza, Pasta Shops; City: Tampa; State: FL",
        },
    ]
    assert list(records.users) == ["v", "u"]
    assert records.users["v"]["items"] == [0, 1]
    assert records.users["v"]["times"] == [1324252800, 1531001351]
    assert records.users["u"]["items"] == [0] and records.users["u"]["times"] == [1325604498]
    assert records.facts == {
        "data/num_bad_lines": 0,
        "data/num_duplicated_events": 1,
        "data/num_events_of_unknown_items": 1,
    }


def test_the_core(tmp_path):
    lines = LINES | {REVIEWS: [*LINES[REVIEWS], review("u", "b1", "2018-01-01")]}
    records = read(write(tmp_path, lines), k_core=2)
    assert {user: len(record["items"]) for user, record in records.users.items()} == {
        "v": 2,
        "u": 2,
    }
    assert read(write(tmp_path, lines), k_core=1).facts["data/num_users_outside_core"] == 0


@pytest.mark.parametrize(
    "name, line, message",
    [
        (
            REVIEWS,
            review("v", "b1", "yesterday"),
            r"date must be a date, such as .* not 'yesterday'",
        ),
        (REVIEWS, review("v", "b1", 20180707), r"date must be a date, such as .* not 20180707"),
        (REVIEWS, review("v", "b1", "1969-12-31"), r"date must be a whole number, not -86400"),
        (REVIEWS, review("", "b1", "2018-07-07"), r"user_id must be text, not ''"),
        (REVIEWS, '{"user_id": "v"', r"not JSON"),
        (BUSINESSES, "[]", r"not an object of JSON"),
    ],
)
def test_bad_lines_are_named_and_left_out_up_to_a_limit(tmp_path, name, line, message):
    good = read(write(tmp_path)).users
    folder = write(tmp_path, LINES | {name: [LINES[name][0], line, *LINES[name][1:]]})
    with pytest.raises(UserError, match=rf"{name}:2: {message}.*max_bad_lines=1"):
        read(folder)
    records = read(folder, max_bad_lines=1)
    assert records.users == good and records.facts["data/num_bad_lines"] == 1


def test_a_missing_file_and_what_the_hash_is_of(tmp_path):
    folder = write(tmp_path)
    assert yelp.is_in(folder)
    hashes = {
        yelp.source(folder, "files", k_core=k_core, max_bad_lines=0).content_hash
        for k_core in (0, 5)
    }
    (tmp_path / BUSINESSES).write_text(business("b1", categories="Bars"))
    hashes.add(yelp.source(folder, "files", k_core=0, max_bad_lines=0).content_hash)
    assert len(hashes) == 3
    (tmp_path / BUSINESSES).unlink()
    with pytest.raises(
        UserError, match=rf"has no {BUSINESSES} or {BUSINESSES}.gz: get it from http"
    ):
        read(folder)
    (tmp_path / REVIEWS).unlink()
    assert not yelp.is_in(folder)
