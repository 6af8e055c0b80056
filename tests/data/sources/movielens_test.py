"""MovieLens in each layout that it is published in, made here, and its mistakes."""

import os
import pathlib

import pytest

from genrec_jax.data.sources import movielens
from genrec_jax.errors import UserError

# User, movie, value and time, in the order of the file: 7 has two at one time.
RATINGS = [(7, 20, 3, 900), (3, 1, 0.5, 800), (7, 1, 5, 800), (7, 300, 4, 800)]
HISTORIES = {"7": ["1", "300", "20"], "3": ["1"]}
TIMES = {"7": [800, 800, 900], "3": [800]}
TEXTS = {
    "1": "Title: Café, The; Year: 1995; Genres: Animation, Children's",
    "20": "Title: No Year",
    "300": "Title: Two (2) of Us; Year: 2006; Genres: War",
}


def write_100k(folder):
    folder.mkdir(exist_ok=True)
    rows = (f"{user}\t{movie}\t{value}\t{time}\n" for user, movie, value, time in RATINGS)
    (folder / "u.data").write_text("".join(rows))

    def row(number, title, genres):
        flags = "|".join("1" if place in genres else "0" for place in range(19))
        return f"{number}|{title}|01-Jan-1995||http://us.imdb.com/M/title-exact?x|{flags}\n"

    rows = [row(1, "Café, The (1995)", (3, 4)), row(4, "Nobody (1990)", ())]
    rows += [row(20, "No Year", (0,)), row(300, "Two (2) of Us (2006)", (17,))]
    (folder / "u.item").write_bytes("".join(rows).encode("latin-1"))


MOVIES = [
    ("1", "Café, The (1995)", "Animation|Children's"),
    ("4", "Nobody (1990)", "War"),
    ("20", "No Year", "(no genres listed)"),
    ("300", "Two (2) of Us (2006-2008)", "War"),
]


def write_dat(folder, encoding="latin-1"):
    folder.mkdir(exist_ok=True)
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in RATINGS))
    movies = "".join("::".join(movie) + "\n" for movie in MOVIES)
    (folder / "movies.dat").write_bytes(movies.encode(encoding))


def write_csv(folder, end="\n", extra=()):
    folder.mkdir(exist_ok=True)
    rows = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in RATINGS)]
    (folder / "ratings.csv").write_bytes("".join(row + end for row in [*rows, *extra]).encode())
    rows = [
        f'{number},"{title}",{genres}' if "," in title else f"{number},{title},{genres}"
        for number, title, genres in MOVIES
    ]
    text = "".join(row + end for row in ["movieId,title,genres", *rows])
    (folder / "movies.csv").write_bytes(text.encode())


def read(folder, k_core=0, max_bad_lines=0):
    source = movielens.source(str(folder), "movielens", k_core=k_core, max_bad_lines=max_bad_lines)
    records = source.read()
    items, users = list(records.items), list(records.users)
    histories = {
        user["user_id"]: [items[place]["item_id"] for place in user["items"]] for user in users
    }
    return items, histories, {user["user_id"]: user["times"] for user in users}, records.facts


@pytest.mark.parametrize(
    "write",
    [
        write_100k,
        write_dat,
        lambda folder: write_dat(folder, "utf-8"),  # as 10M has it
        write_csv,
        lambda folder: write_csv(folder, "\r\n"),  # as the old ones have it
    ],
)
def test_every_layout_gives_the_same_records(tmp_path, write):
    write(tmp_path)
    items, histories, times, facts = read(tmp_path)
    assert {item["item_id"]: item["text"] for item in items} == TEXTS
    assert [item["categories"] for item in items] == [
        [["Animation", "Children's"]],
        [[]],
        [["War"]],
    ]
    assert items[0]["title"] == "Café, The (1995)"
    assert (histories, times) == (HISTORIES, TIMES)
    assert list(histories) == ["7", "3"]
    assert facts == {
        "data/num_duplicated_events": 0,
        "data/num_events_of_unknown_items": 0,
        "data/num_bad_lines": 0,
    }


def test_a_core(tmp_path):
    write_csv(tmp_path, extra=["3,20,1.0,5"])
    _, histories, _, facts = read(tmp_path, k_core=2)
    assert histories == {"7": ["1", "20"], "3": ["20", "1"]}
    assert facts["data/num_items_outside_core"] == 1


@pytest.mark.parametrize(
    "line, message",
    [
        ("7,20,3.0", "3 fields, not 4: userid, movieid, rating, timestamp"),
        ("7,20,3.0,9,9", "5 fields, not 4"),
        ("7,tt20,3.0,9", "movieid must be a whole number, not 'tt20'"),
        (",20,3.0,9", "userid must be a whole number, not ''"),
        ("7,-20,3.0,9", "movieid must be a whole number, not '-20'"),
        ("7,20,good,9", "rating must be a number, not 'good'"),
        ("7,20,,9", "rating must be a number, not ''"),
        ("7,20,3.0,2001-01-01", "timestamp must be a whole number, not '2001-01-01'"),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path, line, message):
    write_csv(tmp_path, extra=["", line])
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/ratings.csv:7: {message}")
    _, histories, _, facts = read(tmp_path, max_bad_lines=1)
    assert (histories, facts["data/num_bad_lines"]) == (HISTORIES, 1)


@pytest.mark.parametrize(
    "name, line, message",
    [
        ("movies.csv", "x,A (1999),War", "movies.csv:6: the movie's id must be a whole number"),
        ("movies.csv", "5,A, B (1999),War", "movies.csv:6: 4 fields, not 3"),
        ("movies.csv", '5,"A,War', "movies.csv:6: unexpected end of data"),
        ("movies.csv", "1,A,War", "movies.csv:6: movie 1 was on a line before"),
        ("movies.dat", "5::A", "movies.dat:5: 2 fields, not 3"),
        ("u.item", "5|A|||", "u.item:5: 5 fields with bars between, not 24"),
    ],
)
def test_a_bad_movie(tmp_path, name, line, message):
    {"movies.csv": write_csv, "movies.dat": write_dat, "u.item": write_100k}[name](tmp_path)
    with (tmp_path / name).open("a") as file:
        file.write(line)
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    assert read(tmp_path, max_bad_lines=1)[1] == HISTORIES


def test_missing_files_and_other_columns(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere: .*download https://files.grouplens"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no ratings.csv or ratings.dat or u.data: "):
        read(tmp_path)
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(UserError, match=r"has ratings.csv but no movies.csv"):
        read(tmp_path)
    (tmp_path / "movies.csv").write_text("movieId,title\n")
    with pytest.raises(UserError, match=r"ratings.csv has no events"):
        read(tmp_path)
    (tmp_path / "ratings.csv").write_text("user,movieId,rating,timestamp\n1,1,1,1\n")
    with pytest.raises(UserError, match=r"must have one column userid and .*columns are user, "):
        read(tmp_path)
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,1,1\n")
    with pytest.raises(UserError, match=r"movies.csv:1: the first line must be movieId,title,gen"):
        read(tmp_path)


def test_latest_small_has_the_published_counts():
    folder = pathlib.Path(os.environ.get("GENREC_DATA_DIR", "")) / "movielens-latest-small"
    if "GENREC_DATA_DIR" not in os.environ or not folder.is_dir():
        pytest.skip("GENREC_DATA_DIR names no folder with movielens-latest-small")
    items, histories, times, facts = read(folder)
    assert (len(histories), len(items)) == (610, 9_724)  # of 9,742 movies, those that are rated
    assert sum(map(len, histories.values())) == 100_836
    assert all(user_times == sorted(user_times) for user_times in times.values())
    assert set(facts.values()) == {0}
