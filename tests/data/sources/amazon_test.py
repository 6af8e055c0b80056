"""Each of Amazon's layouts, by files made here, and in them the histories of real data if there."""

import gzip
import json
import pathlib

import pytest

from genrec_jax.data.sources import amazon, files
from genrec_jax.errors import UserError

BEAUTY = pathlib.Path(__file__).parents[4] / "shared" / "data" / "amazon2014-beauty"
SOAP_2014 = (
    "{'asin': 'B1', 'title': 'Soap &amp; Water', 'price': 3.5, 'brand': \"Ann's\", "
    "'related': {'also_bought': ['B2']}, 'categories': [['Beauty', 'Bath'], ['Gifts']]}\n"
)
META = {
    "2014": SOAP_2014 + "{'asin': 'B9', 'title': 'Nobody has it'}\n",
    "2018": json.dumps(
        {
            "asin": "B1",
            "title": "<b>Soap</b> &amp; Water",
            "price": "$3.50",
            "brand": "Ann's",
            "category": ["Beauty", "Bath"],
            "description": ["It is", "clean."],
        }
    )
    + "\n",
    "2023": json.dumps(
        {
            "title": "Soap & Water",
            "price": 3.5,
            "store": "Ann's",
            "categories": ["Beauty", "Bath"],
            "description": [],
            "parent_asin": "B1",
        }
    )
    + "\n",
}
NAMES = {
    "2014": ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"),
    "2018": ("All_Beauty_5.json.gz", "meta_All_Beauty.json.gz"),
    "2023": ("All_Beauty.jsonl.gz", "meta_All_Beauty.jsonl.gz"),
}
# User, product, seconds.
EVENTS = [("u2", "B2", 300), ("u1", "B1", 200), ("u2", "B1", 100), ("u2", "B1", 100)]


def review(edition, user, product, seconds):
    if edition == "2023":
        return {"user_id": user, "asin": "V", "parent_asin": product, "timestamp": 1000 * seconds}
    return {"reviewerID": user, "asin": product, "overall": 5.0, "unixReviewTime": seconds}


def write(folder, edition, events=EVENTS, meta=None):
    reviews, products = NAMES[edition]
    lines = "".join(json.dumps(review(edition, *event)) + "\n" for event in events)
    (folder / reviews).write_bytes(gzip.compress(lines.encode()))
    (folder / products).write_bytes(gzip.compress((meta or META[edition]).encode()))
    return folder


def read(folder, k_core=0):
    records = amazon.source(folder, "beauty", k_core).read()
    return list(records.items), list(records.users), records.facts


@pytest.mark.parametrize("edition", NAMES)
def test_reviews_of_every_edition(edition, tmp_path):
    items, users, facts = read(write(tmp_path, edition))
    assert users == [
        {"user_id": "u2", "items": [1, 0], "times": [100, 300]},
        {"user_id": "u1", "items": [1], "times": [200]},
    ]
    assert facts == {"data/num_duplicated_events": 1}
    unknown, soap = items
    assert unknown == {"item_id": "B2", "text": "B2"}
    assert (soap["item_id"], soap["title"], soap["brand"]) == ("B1", "Soap & Water", "Ann's")
    assert soap["categories"][0] == ["Beauty", "Bath"]
    assert soap["price"] == ("$3.50" if edition == "2018" else "3.5")
    assert soap["description"] == ("It is clean." if edition == "2018" else "")


def p5(folder, sequences, user_ids, item_ids, meta):
    (folder / "sequential_data.txt").write_text(sequences)
    maps = {
        "id2user": {str(n): name for n, name in enumerate(user_ids, 1)},
        "id2item": {str(n): name for n, name in enumerate(item_ids, 1)},
    }
    (folder / "datamaps.json").write_text(json.dumps(maps))
    (folder / "meta.json.gz").write_bytes(gzip.compress(meta.encode()))
    return folder


def test_the_archive_of_p5(tmp_path):
    items, users, _ = read(p5(tmp_path, "1 2 1\n2 1\n", ["A", "B"], ["B1", "B2"], SOAP_2014))
    assert users == [
        {"user_id": "A", "items": [1, 0], "times": []},
        {"user_id": "B", "items": [0], "times": []},
    ]
    assert [item.get("title") for item in items] == ["Soap & Water", None]
    with pytest.raises(UserError, match="k_core=5: P5's sequences are a core"):
        read(tmp_path, k_core=5)
    p5(tmp_path, "1 2\n2 3\n", ["A", "B"], ["B1", "B2"], SOAP_2014)
    with pytest.raises(UserError, match=r"sequential_data.txt:2: a user or item that datam"):
        read(tmp_path)
    (tmp_path / "datamaps.json").write_text("{}")
    with pytest.raises(UserError, match=r"datamaps.json: no id2item and id2user"):
        read(tmp_path)


def test_the_core(tmp_path):
    events = [(user, item, 1) for user in ("a", "b") for item in ("B1", "B2")] + [("c", "B1", 2)]
    _, users, facts = read(write(tmp_path, "2018", events), k_core=2)
    assert [user["user_id"] for user in users] == ["a", "b"]
    assert facts["data/num_users_outside_core"] == 1


@pytest.mark.parametrize(
    "meta, message",
    [
        ("{'asin': 'B1', 'title': print()}\n", r":1: neither JSON nor a Python literal"),
        ("{'asin': 'B1', 'x': " + "[" * 9000 + "}\n", r":1: neither JSON nor a Python literal"),
        ("{'asin': 'B1', 'x': '" + "a" * 10**6 + "'}\n", r":1: 10\d* characters: no product"),
        ("\n{'title': 'x'}\n", r":2: no asin"),
        ("['asin', {'asin': 'B1'}]\n", r":1: each line must be a product"),
    ],
)
def test_mistakes_in_metadata(meta, message, tmp_path):
    with pytest.raises(UserError, match=rf"meta_Beauty.json.gz{message}"):
        read(write(tmp_path, "2014", meta=meta))


def test_mistakes_in_reviews_and_folders(tmp_path):
    folder = write(tmp_path, "2014", [("u", "B1", 1), ("u", "B1", "now")])
    with pytest.raises(UserError, match=r"reviews_Beauty_5.json.gz:2: no review"):
        read(folder)
    with pytest.raises(UserError, match=r"reviews_Beauty_5.json.gz: no reviews"):
        read(write(tmp_path, "2014", []))
    (tmp_path / "reviews_Toys_5.json.gz").touch()
    with pytest.raises(UserError, match="1 files of metadata and 2 of reviews: leave one of each"):
        amazon.layout(tmp_path)
    assert amazon.layout(tmp_path.parent) is None


@pytest.mark.skipif(not BEAUTY.exists(), reason="the data are not here")
def test_beauty_in_the_layouts_of_p5_and_2014(tmp_path):
    compact = files.source(str(BEAUTY), "beauty").read()
    items = [json.loads(line) for line in gzip.open(BEAUTY / "items.jsonl.gz", "rt")]
    expected = list(compact.users)
    asins = [item["asin"] for item in items]
    lines = "".join(
        repr(
            {name: item[name] for name in ("asin", "title", "brand", "categories") if name in item}
        )
        + "\n"
        for item in items
    )
    names = [f"R{user['user_id']}" for user in expected]
    sequences = "".join(
        " ".join([str(number), *(str(item + 1) for item in user["items"])]) + "\n"
        for number, user in enumerate(expected, 1)
    )
    (tmp_path / "p5").mkdir()
    products, users, _ = read(p5(tmp_path / "p5", sequences, names, asins, lines))
    assert [user["items"] for user in users] == [user["items"] for user in expected]
    assert (len(users), len(products)) == (22_363, 12_101)
    assert sum(len(user["items"]) for user in users) == 198_502
    assert products[0]["title"] == items[0]["title"]

    (tmp_path / "2014").mkdir()
    events = [
        (name, asins[item], 86_400 * place)  # a day each, so that the order is known
        for name, user in zip(names, expected, strict=True)
        for place, item in enumerate(user["items"])
    ]
    products, users, _ = read(write(tmp_path / "2014", "2014", events, lines))
    assert (len(users), len(products), sum(len(user["items"]) for user in users)) == (
        22_363,
        12_101,
        198_502,
    )
    place = {product["item_id"]: number for number, product in enumerate(products)}
    first = [place[asins[item]] for item in expected[0]["items"]]
    assert users[0]["user_id"] == names[0] and users[0]["items"] == first
