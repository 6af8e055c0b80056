"""Amazon reviews in each layout that they are published in, made here, and their mistakes."""

import gzip
import json
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec_jax.data import text
from genrec_jax.data.sources import amazon, files
from genrec_jax.errors import UserError

# User, product and day, in the order of the file: u1 has two on one day, and c has no description.
EVENTS = [("u1", "b", 9), ("u2", "a", 3), ("u1", "a", 5), ("u1", "b", 5), ("u2", "c", 4)]
HISTORIES = {"u1": ["a", "b", "b"], "u2": ["a"]}
TIMES = {"u1": [5, 5, 9], "u2": [3]}
OLD_PRODUCTS = [
    {"asin": "z", "title": "Nobody's", "related": {"also_bought": ["a"]}},
    {
        "asin": "b",
        "description": 'It\'s \\ "soft"',
        "title": "Brush",
        "price": 5.9,
        "brand": "Acme",
        "categories": [["Beauty", "Hair"], ["Gifts"]],
    },
    {"asin": "a", "title": "Soap &amp; Co", "categories": [["Beauty"]]},
]
TEXTS = {
    "b": "Title: Brush; Brand: Acme; Categories: Beauty, Hair, Gifts; Price: $5.90; "
    'Description: It\'s \\ "soft"',
    "a": "Title: Soap & Co; Categories: Beauty",
}
NEW_PRODUCTS = [
    {
        "main_category": "All Beauty",
        "title": "Brush",
        "price": 5.9,
        "store": "Acme",
        "categories": [],
        "description": ["Soft", "and round"],
        "parent_asin": "b",
    },
    {"title": "Soap", "price": None, "store": None, "description": [], "parent_asin": "a"},
]


def put(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = contents.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def put_lines(path, records, dump=json.dumps):
    put(path, "".join(f"{dump(record)}\n" for record in records))


def old_reviews(events=EVENTS):
    return [
        {"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time}
        for user, item, time in events
    ]


def write_2014(folder, events=EVENTS, products=OLD_PRODUCTS):
    put_lines(folder / "reviews_Beauty_5.json.gz", old_reviews(events))
    put_lines(folder / "meta_Beauty.json.gz", products, repr)


def write_2023(folder, suffix=".jsonl.gz"):
    reviews = [
        {"rating": 5.0, "asin": "x", "parent_asin": item, "user_id": user, "timestamp": time}
        for user, item, time in ((user, item, 1000 * day + 1) for user, item, day in EVENTS)
    ]
    put_lines(folder / f"All_Beauty{suffix}", reviews)
    put_lines(folder / f"meta_All_Beauty{suffix}", NEW_PRODUCTS)


def write_p5(folder, sequences="1 2 1\n2 1 1 2\n", products=OLD_PRODUCTS):
    put(folder / "sequential_data.txt", sequences)
    id2item, id2user = {"1": "a", "2": "b"}, {"1": "u1", "2": "u2"}
    maps = {"id2user": id2user, "id2item": id2item}
    maps |= {"user2id": {"u1": "1", "u2": "2"}, "item2id": {"a": "1", "b": "2"}}
    put(folder / "datamaps.json", json.dumps(maps))
    put_lines(folder / "meta.json.gz", products, repr)


def read(folder, k_core=0, max_bad_lines=0):
    """Returns the items' records, the users' histories and times by their names, and the facts."""
    source = amazon.source(str(folder), "shop", k_core=k_core, max_bad_lines=max_bad_lines)
    records = source.read()
    items = list(records.items)
    users = list(records.users)
    histories = {
        user["user_id"]: [items[place]["item_id"] for place in user["items"]] for user in users
    }
    return items, histories, {user["user_id"]: user["times"] for user in users}, records.facts


def texts(items):
    return {item["item_id"]: text.sentence(item) for item in items}


def test_2014(tmp_path):
    write_2014(tmp_path)
    items, histories, times, facts = read(tmp_path)
    assert [item["item_id"] for item in items] == ["b", "a"]  # the order of the products
    assert texts(items) == TEXTS
    assert (histories, times) == (HISTORIES, TIMES)
    assert list(histories) == ["u1", "u2"]
    assert facts == {
        "data/num_duplicated_events": 0,
        "data/num_events_of_unknown_items": 1,
        "data/num_bad_lines": 0,
    }


def test_either_file_of_2014_may_be_json_or_printed_by_python(tmp_path):
    put_lines(tmp_path / "reviews_Beauty_5.json", old_reviews(), repr)
    put_lines(tmp_path / "meta_Beauty.json", OLD_PRODUCTS)
    items, histories, times, _ = read(tmp_path)
    assert (texts(items), histories, times) == (TEXTS, HISTORIES, TIMES)


def test_2018(tmp_path):
    put_lines(tmp_path / "Luxury_Beauty_5.json.gz", old_reviews([*EVENTS, EVENTS[0]]))
    products = [
        {
            "category": ["Beauty", "Hair", "</span></span>"],
            "description": ["<b>Soft</b>", ""],
            "title": "var aPageStart = (new Date()).getTime();",
            "brand": "Acme",
            "price": "$5.90 - $7.00",
            "asin": "b",
        },
        {"title": '<span class="x">Soap</span>', "price": ".a-box {color: red}", "asin": "a"},
        {"title": "Again", "asin": "a"},
    ]
    put_lines(tmp_path / "meta_Luxury_Beauty.json.gz", products)
    items, histories, _, facts = read(tmp_path)
    assert texts(items) == {
        "b": "Brand: Acme; Categories: Beauty, Hair; Price: $5.90 - $7.00; Description: Soft",
        "a": "Title: Soap",
    }
    assert histories == HISTORIES
    assert facts["data/num_duplicated_events"] == 1


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl"])
def test_2023(tmp_path, suffix):
    write_2023(tmp_path, suffix)
    items, histories, times, _ = read(tmp_path)
    assert texts(items) == {
        "b": "Title: Brush; Brand: Acme; Categories: All Beauty; Price: $5.90; "
        "Description: Soft and round",
        "a": "Title: Soap",
    }
    assert (histories, times) == (HISTORIES, TIMES)


@pytest.mark.parametrize("parts", [False, True])
def test_2023_as_hugging_face_has_it(tmp_path, parts):
    header = "user_id,parent_asin,rating,timestamp\n"
    rows = [f"{user},{item},5.0,{1000 * day}\n" for user, item, day in EVENTS]
    folder = tmp_path / "benchmark/5core/rating_only"
    if parts:
        for name, part in (("train", rows[:3]), ("valid", rows[3:4]), ("test", rows[4:])):
            put(folder / f"All_Beauty.{name}.csv", header + "".join(part))
    else:
        put(folder / "All_Beauty.csv", header + "".join(rows))
    meta = tmp_path / "raw_meta_All_Beauty"
    meta.mkdir()
    for number, product in enumerate(NEW_PRODUCTS):
        table = pa.Table.from_pylist([product | {"price": str(product["price"])}])
        pa.parquet.write_table(table, meta / f"full-0000{number}-of-00002.parquet")
    put(tmp_path / ".cache/huggingface/x.csv", "")
    items, histories, times, _ = read(tmp_path)
    assert texts(items)["b"].startswith("Title: Brush; Brand: Acme; Categories: All Beauty; Price")
    assert texts(items)["a"] == "Title: Soap"
    assert histories == HISTORIES
    assert times == TIMES


def test_p5(tmp_path):
    write_p5(tmp_path)
    items, histories, times, facts = read(tmp_path)
    assert [item["item_id"] for item in items] == ["a", "b"]  # the order of the numbers
    assert texts(items) == TEXTS
    assert histories == {"u1": ["b", "a"], "u2": ["a", "a", "b"]}
    assert times == {"u1": [], "u2": []}
    assert facts == {"data/num_events_of_unknown_items": 0, "data/num_bad_lines": 0}


def test_a_core_is_what_is_left_without_items_that_are_unknown(tmp_path):
    # Without the unknown c, u3 has one event, and without u3 d has one: neither is in the 2-core.
    others = [("u3", "c", 1), ("u3", "d", 2), ("u4", "d", 3), ("u4", "c", 4)]
    two = [("u1", "a", 1), ("u1", "b", 2), ("u2", "a", 3), ("u2", "b", 4)]
    write_2014(tmp_path, two + others, [*OLD_PRODUCTS, {"asin": "d", "title": "Dye"}])
    items, histories, _, facts = read(tmp_path, k_core=2)
    assert [item["item_id"] for item in items] == ["b", "a"]
    assert histories == {"u1": ["a", "b"], "u2": ["a", "b"]}
    assert facts == {
        "data/num_duplicated_events": 0,
        "data/num_events_of_unknown_items": 2,
        "data/num_users_outside_core": 2,
        "data/num_items_outside_core": 2,
        "data/num_bad_lines": 0,
    }
    with pytest.raises(UserError, match=r"reviews_Beauty_5.*no users and items .*k_core=9"):
        read(tmp_path, k_core=9)


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"reviewerID": "u1"', "not JSON: "),
        ("{'reviewerID': open('x')}", "not a literal of Python: "),
        ("{'a': " + "[" * 150 + "]" * 150 + "}", "lists or objects in each other, over 100 deep"),
        ("{'a': " + "[" * 10**5 + "}", "not a literal of Python: "),
        ("{'a': '" + "x" * 2**20 + "'}", "over 1048576 characters long"),
        ("[1]", "not an object of JSON, nor a dictionary of Python"),
        ('{"asin": "a", "unixReviewTime": 5}', "reviewerID must be text, not None"),
        ('{"reviewerID": "u", "asin": "", "unixReviewTime": 5}', "asin must be text, not ''"),
        (
            '{"reviewerID": "u", "asin": "a", "unixReviewTime": -5}',
            "unixReviewTime must be a whole number, not -5",
        ),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path, line, message, caplog):
    write_2014(tmp_path)
    lines = [json.dumps(review) for review in old_reviews()]
    put(tmp_path / "reviews_Beauty_5.json.gz", "\n".join([*lines[:3], "", line, *lines[3:]]))
    with pytest.raises(UserError, match=r"reviews_Beauty_5.json.gz:5: .*max_bad_lines") as caught:
        read(tmp_path)
    assert message in str(caught.value)
    _, histories, _, facts = read(tmp_path, max_bad_lines=1)
    assert (histories, facts["data/num_bad_lines"]) == (HISTORIES, 1)
    assert f"reviews_Beauty_5.json.gz:5: {message}" in caplog.text


def test_bad_lines_of_all_files_count(tmp_path):
    write_2014(tmp_path)
    with gzip.open(tmp_path / "meta_Beauty.json.gz", "ab") as file:
        file.write(b"{}\n{'asin': 'nobody', so not read\n\xff\n")
    with pytest.raises(UserError, match=r"meta_Beauty.json.gz:4: a product without asin"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"meta_Beauty.json.gz:6: not UTF-8: .*max_bad_lines=2$"):
        read(tmp_path, max_bad_lines=1)
    assert read(tmp_path, max_bad_lines=2)[3]["data/num_bad_lines"] == 2


@pytest.mark.parametrize(
    "sequences, message",
    [
        ("1 2 1\n2 1 3\n", "sequential_data.txt:2: item 3 is not in datamaps.json"),
        ("1 2 1\n3 1\n", "sequential_data.txt:2: user 3 is not in datamaps.json"),
        ("1 2 1\n1 1\n", "sequential_data.txt:2: user 1 was on a line before"),
        ("1\n", "sequential_data.txt has no events"),
    ],
)
def test_mistakes_in_the_archive_of_p5(tmp_path, sequences, message):
    write_p5(tmp_path, sequences)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_missing_and_superfluous_files(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*: give .*data.dir; .*download https://drive"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no file of products, such as .*docs/data.md"):
        read(tmp_path)
    for name in ("movies.csv", "ratings.csv"):  # of MovieLens: neither is called reviews
        (tmp_path / name).write_text("a,b\n")
    with pytest.raises(UserError, match=r"has no file of products, such as .*docs/data.md"):
        read(tmp_path)
    for name in ("movies.csv", "ratings.csv"):
        (tmp_path / name).unlink()
    write_2014(tmp_path)
    put_lines(tmp_path / "reviews_Beauty.json.gz", old_reviews())
    with pytest.raises(UserError, match=r"several files of reviews: reviews_Beauty.json.gz, rev"):
        read(tmp_path)
    (tmp_path / "reviews_Beauty.json.gz").unlink()
    (tmp_path / "meta_Beauty.json.gz").unlink()
    with pytest.raises(UserError, match=r"has no file of products, such as meta_Beauty"):
        read(tmp_path)
    put(tmp_path / "sequential_data.txt", "1 1\n")
    with pytest.raises(UserError, match=r"has sequential_data.txt but no datamaps.json"):
        read(tmp_path)
    put(tmp_path / "datamaps.json", '{"id2user": {}, "id2item": {"a": "b"}}')
    put(tmp_path / "meta.json.gz", "")
    with pytest.raises(UserError, match=r"datamaps.json: not the maps of P5"):
        read(tmp_path)


def test_products_of_something_else(tmp_path):
    write_2014(tmp_path, products=OLD_PRODUCTS[:1])
    with pytest.raises(UserError, match=r"none of its items is described: the first one is 'b'"):
        read(tmp_path)


def test_the_hash_changes_with_files_and_settings(tmp_path):
    def content_hash(**changes):
        settings = {"k_core": 0, "max_bad_lines": 0} | changes
        return amazon.source(str(tmp_path), "shop", **settings).content_hash

    write_2014(tmp_path)
    first = content_hash()
    assert first == content_hash()
    assert len({first, content_hash(k_core=5), content_hash(max_bad_lines=1)}) == 3
    write_2014(tmp_path, EVENTS[1:])
    assert content_hash() != first


def beauty():
    """Returns the folder of Beauty in the compact format, and its records; skips without it."""
    folder = pathlib.Path(os.environ.get("GENREC_DATA_DIR", "")) / "amazon2014-beauty"
    if "GENREC_DATA_DIR" not in os.environ or not folder.is_dir():
        pytest.skip("GENREC_DATA_DIR names no folder with amazon2014-beauty")
    records = files.source(str(folder), "beauty").read()
    return list(records.items), list(records.users)


@pytest.mark.parametrize("layout", ["2014", "p5"])
def test_beauty_has_the_published_counts(tmp_path, layout):
    items, users = beauty()
    asins = [item["asin"] for item in items]
    fields = ("asin", "title", "brand", "categories")
    products = [{name: item[name] for name in fields if name in item} for item in items]
    if layout == "p5":
        put_lines(tmp_path / "meta.json.gz", products, repr)
        id2item = {str(number): asin for number, asin in enumerate(asins, 1)}
        id2user = {user["user_id"]: f"A{user['user_id']}" for user in users}
        put(tmp_path / "datamaps.json", json.dumps({"id2user": id2user, "id2item": id2item}))
        lines = (
            f"{user['user_id']} {' '.join(str(item + 1) for item in user['items'])}\n"
            for user in users
        )
        put(tmp_path / "sequential_data.txt", "".join(lines))
    else:
        days = {}
        for user in users:  # an unknown day is that of the event before, or of the first known one
            known = np.maximum.accumulate(user["times"])
            days[user["user_id"]] = np.where(known < 0, known[known >= 0].min(initial=0), known)
        events = [
            (f"A{user['user_id']}", asins[item], int(day) * 86400)
            for user in users
            for item, day in zip(user["items"], days[user["user_id"]], strict=True)
        ]
        write_2014(tmp_path, sorted(events, key=lambda event: event[2]), products)
    read_items, histories, _, facts = read(tmp_path)
    assert (len(histories), len(read_items)) == (22_363, 12_101)
    assert sum(map(len, histories.values())) == 198_502
    assert histories == {
        f"A{user['user_id']}": [asins[item] for item in user["items"]] for user in users
    }
    assert [item["item_id"] for item in read_items] == asins
    assert facts["data/num_bad_lines"] == facts["data/num_events_of_unknown_items"] == 0
