"""Items and events from two tables: the rules, worked by hand."""

import csv
import datetime
import gzip
import json
import pathlib

import pyarrow as pa
import pytest
from pyarrow import parquet

from genrec_jax.data import table_files
from genrec_jax.data.sources import tables
from genrec_jax.errors import UserError

MOVIELENS = pathlib.Path(__file__).parents[4] / "shared" / "data" / "movielens-latest-small"
DEFAULTS = {
    "item_id": "item_id",
    "user_id": "user_id",
    "time": "timestamp",
    "text": "",
    "k_core": 0,
}
ITEMS = {
    "item_id": ["a", "007", "c"],
    "title": ["Soap", None, "Brush"],
    "brand": ["Acme", "Bond", None],
}
EVENTS = {
    "user_id": ["v", "u", "v", "v", "u"],
    "item_id": ["c", "a", "a", "007", "c"],
    "timestamp": [30, 5, 10, 10, 5],
}


def write(path, columns):
    """Writes columns, lists of equal length, in the format that the path's suffix says."""
    rows = list(zip(*columns.values(), strict=True))
    kind = table_files.suffix(path).removesuffix(".gz")
    if kind == ".parquet":
        parquet.write_table(pa.table(columns), path)
        return str(path)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="") as file:
        if kind == ".jsonl":
            file.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        else:
            csv.writer(file, delimiter=",\t"[kind == ".tsv"]).writerows([columns, *rows])
    return str(path)


def source(folder, items=ITEMS, events=EVENTS, suffixes=(".parquet", ".parquet"), **settings):
    paths = {
        name: write(folder / f"{name}{suffix}", columns)
        for name, columns, suffix in zip(
            ("items", "interactions"), (items, events), suffixes, strict=True
        )
    }
    return tables.source(**paths, **DEFAULTS | settings)


def read(*args, **settings):
    """Returns the items, the users as {user: (items, times)} and the facts."""
    records = source(*args, **settings).read()
    users = {user["user_id"]: (user["items"], user["times"]) for user in records.users}
    return list(records.items), users, records.facts


def events(rows):
    """Returns a table of events from "user item time" or "user item"."""
    columns = zip(*(row.split() for row in rows), strict=True)
    return dict(zip(("user_id", "item_id", "timestamp"), map(list, columns), strict=False))


NOTHING_LEFT_OUT = {
    "data/num_events_of_unknown_items": 0,
    "data/num_events_without_time": 0,
    "data/num_duplicated_events": 0,
}


@pytest.mark.parametrize("suffix", table_files.SUFFIXES)
def test_every_format_gives_the_same_records(tmp_path, suffix):
    items, users, facts = read(tmp_path, suffixes=(suffix, suffix))
    assert items == [
        {"item_id": "a", "title": "Soap", "text": "Title: Soap; Brand: Acme"},
        {"item_id": "007", "title": "", "text": "Brand: Bond"},
        {"item_id": "c", "title": "Brush", "text": "Title: Brush"},
    ]
    # By time, ties as in the file; users as they come.
    assert list(users) == ["v", "u"]
    assert users == {"v": ([0, 1, 2], [10, 10, 30]), "u": ([0, 2], [5, 5])}
    assert facts == NOTHING_LEFT_OUT


@pytest.mark.parametrize(
    "of_items, of_events",
    [
        ([1, 2, 3], ["3", "1", "1", "2", "3"]),
        ([1, 2, 3], [3.0, 1.0, 1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], pa.array([3, 1, 1, 2, 3], pa.uint8())),
        (["1", "2", "3"], pa.array([3, 1, 1, 2, 3], pa.int8()).dictionary_encode()),
    ],
)
def test_ids_of_different_types_are_compared_as_text(tmp_path, of_items, of_events):
    items, users, _ = read(tmp_path, ITEMS | {"item_id": of_items}, EVENTS | {"item_id": of_events})
    assert [item["item_id"] for item in items] == ["1", "2", "3"]
    assert users == {"v": ([0, 1, 2], [10, 10, 30]), "u": ([0, 2], [5, 5])}


def test_names_of_columns(tmp_path):
    items = {"isbn": ITEMS["item_id"], "Name": ["A", "B", "C"], "pages": [100.0, None, 5.0]}
    visits = {"who": EVENTS["user_id"], "book": EVENTS["item_id"], "when": EVENTS["timestamp"]}
    names = {"item_id": "isbn,book", "user_id": "who", "time": "when", "text": "Name, pages"}
    found, users, _ = read(tmp_path, items, visits, **names)
    assert [item["text"] for item in found] == [
        "Name: A; Pages: 100",
        "Name: B",
        "Name: C; Pages: 5",
    ]
    assert [item["title"] for item in found] == ["A", "B", "C"]  # the first column of the text
    assert users["u"] == ([0, 2], [5, 5])


def test_the_title_is_the_column_of_that_name_wherever_it_is(tmp_path):
    items, _, _ = read(tmp_path, text="brand,title")
    assert items[0] == {"item_id": "a", "title": "Soap", "text": "Brand: Acme; Title: Soap"}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_in_texts(tmp_path, suffix):
    items = ITEMS | {"genres": [["Drama", "Noir"], [], None]}
    found, _, _ = read(tmp_path, items, suffixes=(suffix, ".csv"), text="title,genres")
    assert [item["text"] for item in found] == [
        "Title: Soap; Genres: Drama, Noir",
        "",
        "Title: Brush",
    ]
    assert [item["categories"] for item in found] == [[["Drama", "Noir"]], [[]], [[]]]


@pytest.mark.parametrize("suffix", table_files.SUFFIXES)
def test_names_between_bars_are_categories(tmp_path, suffix):
    items = ITEMS | {"genres": ["Drama|Noir", None, " Noir | "]}
    found, _, _ = read(tmp_path, items, suffixes=(suffix, ".csv"))
    assert [item["categories"] for item in found] == [[["Drama", "Noir"]], [[]], [["Noir"]]]
    assert found[0]["text"] == "Title: Soap; Brand: Acme; Genres: Drama|Noir"
    found, _, _ = read(tmp_path, items, suffixes=(suffix, ".csv"), text="title,brand")
    assert not any("categories" in item for item in found)  # only the columns named are read
    found, _, _ = read(tmp_path, items | {"categories": ["a", "b", "c"]})
    assert [item["categories"] for item in found] == [[["a"]], [["b"]], [["c"]]]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_of_several_paths_the_first_is_the_category(tmp_path, suffix):
    paths = [[["Bath, Body", "Soap"], ["Gifts"]], [[], ["Gifts"]], None]
    found, _, _ = read(tmp_path, ITEMS | {"categories": paths}, suffixes=(suffix, ".csv"))
    assert [item["categories"] for item in found] == [[["Bath, Body", "Soap"]], [["Gifts"]], [[]]]
    assert found[0]["text"] == "Title: Soap; Brand: Acme; Categories: Bath, Body, Soap, Gifts"


def test_duplicates_count_once_and_repeats_as_often_as_they_are(tmp_path):
    rows = ["u a 7", "u c 7", "u a 7", "u a 8", "v a 7", "u a 7", "u c 7.5"]
    _, users, facts = read(tmp_path, events=events(rows))
    assert users == {"u": ([0, 2, 2, 0], [7, 7, 7, 8]), "v": ([0], [7])}
    assert facts == NOTHING_LEFT_OUT | {"data/num_duplicated_events": 2}


def test_without_times_the_order_is_the_files_and_nothing_is_a_duplicate(tmp_path):
    rows = ["v c", "u a", "v a", "v c", "u a"]
    _, users, facts = read(tmp_path, events=events(rows), time="")
    assert users == {"v": ([2, 0, 2], []), "u": ([0, 0], [])}
    assert facts == {"data/num_events_of_unknown_items": 0}


def test_events_that_have_no_place_are_left_out(tmp_path):
    rows = ["w x 1", "u a 3", "u x 1", "v x 1", "u c 2", "v c nan", "v a nan", "v a 9"]
    _, users, facts = read(tmp_path, events=events(rows))
    assert users == {"u": ([2, 0], [2, 3]), "v": ([0], [9])}
    expected = {"data/num_events_of_unknown_items": 3, "data/num_events_without_time": 2}
    assert facts == NOTHING_LEFT_OUT | expected


def test_items_without_events_stay_and_leave_with_a_core(tmp_path):
    # b is seen once, so it goes; w is then left with one event and goes, and d with her.
    items = {"item_id": ["none", "b", "c", "d", "a"], "title": list("NBCDA")}
    rows = ["w b 1", "w d 2", "u a 4", "u c 3", "v c 5", "v a 6", "v d 7", "u a 4", "u a 9"]
    found, users, facts = read(tmp_path, items, events(rows))
    assert len(found) == 5 and facts["data/num_duplicated_events"] == 1
    assert users["u"] == ([2, 4, 4], [3, 4, 9])
    found, users, facts = read(tmp_path, items, events(rows), k_core=2)
    assert [item["item_id"] for item in found] == ["c", "a"]
    assert users == {"u": ([0, 1, 1], [3, 4, 9]), "v": ([0, 1], [5, 6])}
    assert facts == NOTHING_LEFT_OUT | {
        "data/num_duplicated_events": 1,
        "data/num_users_outside_core": 1,
        "data/num_items_outside_core": 3,
    }


NOON = 1_577_966_400  # 2020-01-02 12:00 UTC
MIDNIGHT = NOON - 12 * 3600
LATER = datetime.datetime(2020, 1, 2, 12, 0, 1, 500_000)


@pytest.mark.parametrize(
    "times, expected",
    [
        ([4.9, 4.2], [4, 4]),
        (["5", "3"], [5, 3]),
        (["1e3", "3"], [1000, 3]),
        (["2020-01-02", "2020-01-01"], [MIDNIGHT, MIDNIGHT - 86400]),
        (["2020-01-02T12:00:01Z", "2020-01-02T13:00:00+01:00"], [NOON + 1, NOON]),
        (["2020-01-02 12:00:00.123456789", "2020-01-02 12:00"], [NOON, NOON]),
        (["2020-01-02 12:00:00.123456789", "2020-01-02 12:00:00.123456788"], [NOON, NOON]),
        (["2020-01-02T12:00:00.1234567Z", "2020-01-02T13:00:00.123456+01:00"], [NOON, NOON]),
        (["2020-01-02 12:00:00.1234567899", "2020-01-02 12:00:00.1234567889"], [NOON, NOON]),
        (["9999-12-31 23:59:59.9999999", "2020-01-02 12:00:00.123456"], [253402300799, NOON]),
        (["9999-12-31T23:59:59.9999999Z", "2020-01-02T13:00:00+01:00"], [253402300799, NOON]),
        (["9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999998"], [253402300799] * 2),
        (pa.array([LATER, LATER.replace(second=0)], pa.timestamp("ms")), [NOON + 1, NOON]),
        (pa.array([LATER, LATER.replace(second=0)], pa.timestamp("ns", "UTC")), [NOON + 1, NOON]),
        (
            pa.array([datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)]),
            [MIDNIGHT, MIDNIGHT - 86400],
        ),
        (pa.array(["2020-01-02", "2020-01-01"]).dictionary_encode(), [MIDNIGHT, MIDNIGHT - 86400]),
    ],
)
def test_times_become_seconds(tmp_path, times, expected):
    visits = {"user_id": ["u", "u"], "item_id": ["a", "c"], "timestamp": times}
    _, users, _ = read(tmp_path, events=visits)
    # Each pair goes back, if only by a part of a second: the order is that of the exact times.
    assert users == {"u": ([2, 0], expected[::-1])}


def test_the_hash_changes_with_the_contents_and_every_setting(tmp_path):
    settings = [
        {},
        {"events": EVENTS | {"timestamp": [1, 2, 3, 4, 5]}},
        {"items": ITEMS | {"title": ["x", "y", "z"]}},
        {"item_id": "item_id,item_id"},
        {"user_id": "timestamp"},
        {"time": ""},
        {"text": "title"},
        {"k_core": 2},
        {"suffixes": (".csv", ".csv")},
    ]
    hashes = [source(tmp_path, **changes).content_hash for changes in settings]
    assert len(set(hashes)) == len(settings)
    assert source(tmp_path).content_hash == hashes[0]


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"items": ITEMS | {"item_id": ["a", "c", "a"]}},
            r"items.csv:4: item_id a was .*csv:2: ke",
        ),
        ({"items": ITEMS | {"item_id": ["a", None, "c"]}}, r"items.csv:3: no item_id: every row"),
        ({"items": {"item_id": ["a"], "name": ["A"]}}, r"has none of the columns title, .*name$"),
        ({"items": ITEMS | {"title": [None] * 3}, "text": "title"}, r"csv: title are empty in all"),
        ({"text": "title,colour"}, r"no column 'colour': name it by --config.data.text; its col"),
        (
            {"events": EVENTS | {"user_id": ["u", None] * 2 + ["v"]}},
            r"interactions.csv:3: no user_",
        ),
        ({"events": EVENTS | {"item_id": ["1.0"] * 5}}, r"item_id is '1.0' here and 'a' there; na"),
        ({"user_id": "uid"}, r"no column 'uid': name it by --config.data.user_id; .* are user_id,"),
        ({"item_id": "item_id,item"}, r"interactions.csv has no column 'item': .* are item_id, ti"),
        (
            {"time": "when"},
            r"no column 'when': name it by --config.data.time, or leave it empty \(",
        ),
        ({"events": EVENTS | {"timestamp": [None] * 5}}, r"no event has a timestamp: name another"),
        ({"events": EVENTS | {"timestamp": [1, 2, -1, 4, 5]}}, r"csv:4: timestamp -1 is before 19"),
        ({"events": EVENTS | {"timestamp": [1, "inf", 3, 4, 5]}}, r"csv:3: timestamp inf is befor"),
        (
            {"events": EVENTS | {"timestamp": [1, None, "soon", 4, 5]}},
            r"interactions.csv:4: timestamp 'soon' is no time, or is written unlike those before",
        ),
        (
            {"events": EVENTS | {"timestamp": ["2020-01-02"] * 4 + [5]}},
            r"interactions.csv:6: timestamp '5' is no time, or is written unlike",
        ),
        ({"k_core": 4}, r"no users and items are left that have 4 events each: lower --config.da"),
        ({"user_id": ""}, r"--config.data.user_id= names no column: give that of the ids"),
        ({"item_id": ""}, r"--config.data.item_id= names no column: give that of the ids"),
        ({"item_id": ",item_id"}, r"--config.data.item_id=,item_id names no column: give that of"),
        ({"k_core": -1}, r"--config.data.k_core=-1 must be at least 0"),
        (
            {"suffixes": (".csv", ".xlsx")},
            r"data.interactions=.*xlsx must end in .csv, .*or .parq",
        ),
    ],
)
def test_mistakes(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, **{"suffixes": (".csv", ".csv")} | changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"item_id": [1, None, 3]}, r"items.parquet: row 2: no item_id"),
        ({"item_id": [1.0, 2.0, 1.0]}, r"parquet: row 3: item_id 1 was already at .*: row 1: keep"),
    ],
)
def test_mistakes_in_rows_of_parquet(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, ITEMS | changes)


@pytest.mark.parametrize(
    "times", [pa.array([True] * 5), [[1]] * 5, pa.array([2**64 - 1] * 5, pa.uint64())]
)
def test_columns_of_parquet_that_are_no_times(tmp_path, times):
    with pytest.raises(
        UserError, match=r"interactions.parquet.*: timestamp .*(no time|must be|can)"
    ):
        read(tmp_path, events=EVENTS | {"timestamp": times})


def test_a_file_that_is_not_there(tmp_path):
    source(tmp_path)
    with pytest.raises(UserError, match=r"no file .*nowhere.csv: give a table by --config.data.it"):
        tables.source(
            items=str(tmp_path / "nowhere.csv"),
            interactions=str(tmp_path / "interactions.parquet"),
            **DEFAULTS,
        )


@pytest.mark.skipif(not MOVIELENS.is_dir(), reason="the data set is not here")
def test_movielens():
    with (MOVIELENS / "ratings.csv").open() as file:
        user, item, _, time = next(csv.reader(file))
        rows = [(row[0], row[1], int(row[3])) for row in csv.reader(file)]
    records = tables.source(
        items=str(MOVIELENS / "movies.csv"),
        interactions=str(MOVIELENS / "ratings.csv"),
        item_id=f"movieId,{item}",
        user_id=user,
        time=time,
        text="title,genres",
        k_core=0,
    ).read()
    users = list(records.users)
    assert (len(records.items), len(users)) == (9742, 610)
    assert records.facts == NOTHING_LEFT_OUT
    assert records.items[0]["title"] == "Toy Story (1995)"
    (genres,) = records.items[0]["categories"]
    assert genres == ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]
    events = [
        (user["user_id"], records.items[place]["item_id"], time)
        for user in users
        for place, time in zip(user["items"], user["times"], strict=True)
    ]
    assert len(events) == 100_836
    first = list(dict.fromkeys(user for user, _, _ in rows))
    assert events == sorted(rows, key=lambda row: (first.index(row[0]), row[2]))
