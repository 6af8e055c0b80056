"""Each of MovieLens's layouts, by files made here, and the published one where it is there."""

import pathlib

import pytest

from genrec_jax.data.sources import movielens
from genrec_jax.errors import UserError

SMALL = pathlib.Path(__file__).parents[4] / "shared" / "data" / "movielens-latest-small"
FILES = {
    "100K": {
        "u.data": "7\t2\t3\t300\n8\t1\t5\t100\n7\t1\t1\t200\n",
        "u.item": "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1|1" + "|0" * 13 + "\n"
        "2|Mis\xe9rables, Les (1995)|01-Jan-1995||http://y" + "|0" * 8 + "|1" + "|0" * 10 + "\n",
    },
    "1M": {
        "ratings.dat": "7::2::3::300\n8::1::5::100\n7::1::1::200\n",
        "movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n"
        "2::Mis\xe9rables, Les (1995)::Drama\n",
    },
    "csv": {
        "ratings.csv": "userId,movieId,rating,timestamp\n7,2,3.5,300\n8,1,5.0,100\n7,1,0.5,200\n",
        "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Animation|Children's|Comedy\n"
        '2,"Mis\xe9rables, Les (1995)",Drama\n',
    },
}


def write(folder, layout, **changes):
    encoding = "utf-8" if layout == "csv" else "latin-1"
    for name, text in (FILES[layout] | changes).items():
        (folder / name).write_bytes(text.encode(encoding))
    return folder


def read(folder, k_core=0):
    records = movielens.source(folder, "movies", k_core).read()
    return list(records.items), list(records.users), records.facts


@pytest.mark.parametrize("layout", FILES)
def test_every_layout_gives_the_same(layout, tmp_path):
    items, users, facts = read(write(tmp_path, layout))
    assert items == [
        {
            "item_id": "1",
            "title": "Toy Story (1995)",
            "text": "Title: Toy Story; Year: 1995; Genres: Animation, Children's, Comedy",
            "categories": [["Animation", "Children's", "Comedy"]],
        },
        {
            "item_id": "2",
            "title": "Misérables, Les (1995)",
            "text": "Title: Misérables, Les; Year: 1995; Genres: Drama",
            "categories": [["Drama"]],
        },
    ]
    assert users == [
        {"user_id": "7", "items": [0, 1], "times": [200, 300]},
        {"user_id": "8", "items": [0], "times": [100]},
    ]
    assert facts == {}


def test_ratings_at_the_same_time_stay_in_the_order_of_the_file(tmp_path):
    folder = write(tmp_path, "1M", **{"ratings.dat": "7::2::3::5\n7::1::3::5\n"})
    assert read(folder)[1] == [{"user_id": "7", "items": [1, 0], "times": [5, 5]}]


def test_movies_without_a_year_and_genres(tmp_path):
    text = "movieId,title,genres\n1,Babylon 5,(no genres listed)\n2,,\n"
    items, _, _ = read(write(tmp_path, "csv", **{"movies.csv": text}))
    assert items[0]["text"] == "Title: Babylon 5" and items[0]["categories"] == [[]]
    assert items[1]["title"] == items[1]["text"] == ""


def test_the_core_and_the_hash(tmp_path):
    ratings = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)]
    text = "".join(f"{user}\t{movie}\t3\t{n}\n" for n, (user, movie) in enumerate(ratings))
    folder = write(tmp_path, "100K", **{"u.data": text})
    _, users, facts = read(folder, k_core=2)
    assert [user["user_id"] for user in users] == ["1", "2"]
    assert facts == {"data/num_users_outside_core": 1, "data/num_items_outside_core": 0}
    before = movielens.source(folder, "movies", 0).content_hash
    assert movielens.source(folder, "movies", 2).content_hash != before
    (folder / "u.data").write_text("1\t1\t3\t1\n")
    assert movielens.source(folder, "movies", 0).content_hash != before


@pytest.mark.parametrize(
    "layout, name, text, message",
    [
        ("csv", "ratings.csv", "a,b,c,d\n7,1,3,5\n7,9,3,5\n", r"ratings.csv:3: movie 9 is not in"),
        ("1M", "ratings.dat", "7::9::3::5\n", r"ratings.dat:1: movie 9 is not in movies.dat"),
        ("csv", "ratings.csv", "a,b,c,d\n7,x,3,5\n", r"ratings.csv: .*x.*: a line must be a user"),
        ("1M", "ratings.dat", "7::1::3\n", r"ratings.dat: .*: a line must be a user, a movie"),
        ("1M", "movies.dat", "1::A::B\n2::A\n", r"movies.dat:2: 2 fields instead of 3"),
        ("100K", "u.item", "1|A\n", r"u.item:1: 2 fields instead of 24"),
        ("1M", "movies.dat", "x::A::B\n", r"movies.dat:1: 'x' is no movie's number"),
    ],
)
def test_mistakes(layout, name, text, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, layout, **{name: text}))


@pytest.mark.skipif(not SMALL.exists(), reason="the published files are not here")
def test_the_published_files():
    items, users, _ = read(SMALL)
    assert (len(items), len(users)) == (9_742, 610)
    assert sum(len(user["items"]) for user in users) == 100_836
