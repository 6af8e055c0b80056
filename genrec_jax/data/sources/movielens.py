"""A MovieLens folder as GroupLens publishes it (https://grouplens.org/datasets/movielens).

| files | of |
|---|---|
| `u.data`, `u.item` | 100K |
| `ratings.dat`, `movies.dat` | 1M, 10M |
| `ratings.csv`, `movies.csv` | latest-small, 20M, 25M, 32M, latest |

Every rating is an event, whatever its value. A movie's text is its title, year and genres. Ratings
at the same time stay in the order of the file. Harper and Konstan, 2015,
https://doi.org/10.1145/2827872.
"""

import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from genrec_jax import files
from genrec_jax.data import events as events_lib
from genrec_jax.data import text as text_lib
from genrec_jax.data.events import Events
from genrec_jax.data.records import Records, Source
from genrec_jax.errors import UserError

_VERSION = "1"
# What the columns of u.item are after the first five, in this order.
_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()
_NO_GENRES = "(no genres listed)"
_TITLE = re.compile(r"(.*\S)\s*\((\d{4})\)\s*")  # "Toy Story (1995)"


class _Layout(NamedTuple):
    ratings: str
    movies: str
    delimiter: str  # between the fields of both
    encoding: str
    has_header: bool


_LAYOUTS = (
    _Layout("u.data", "u.item", "\t", "latin-1", False),
    _Layout("ratings.dat", "movies.dat", "::", "latin-1", False),
    _Layout("ratings.csv", "movies.csv", ",", "utf-8", True),
)


def layout(directory: pathlib.Path) -> _Layout | None:
    """Returns that of the files in a folder, None if these are not MovieLens's."""
    for one in _LAYOUTS:
        if (directory / one.ratings).is_file() and (directory / one.movies).is_file():
            return one
    return None


def source(directory: pathlib.Path, name: str, k_core: int) -> Source:
    """Returns the data set in a folder that has a `layout`.

    Args:
        directory: the folder.
        name: of the data set.
        k_core: how many ratings each user and movie must have; 0 for no such rule.
    """
    found = layout(directory)
    paths = directory / found.ratings, directory / found.movies
    settings = [_VERSION, str(k_core), *map(files.sha256, paths)]
    content_hash = hashlib.sha256(" ".join(settings).encode()).hexdigest()[:16]
    return Source(name, content_hash, lambda: _read(*paths, found, k_core))


def _read(ratings: pathlib.Path, movies: pathlib.Path, found: _Layout, k_core: int) -> Records:
    items = list(_movies(movies, found))
    users, movie_ids, _, times = _ratings(ratings, found)
    catalogue = pa.array([int(item["item_id"]) for item in items])
    places = np.asarray(pc.index_in(pa.array(movie_ids), value_set=catalogue).fill_null(-1))
    if (places < 0).any():
        row = int((places < 0).argmax())
        raise UserError(
            f"{ratings}:{row + 1 + found.has_header}: movie {movie_ids[row]} is not in "
            f"{movies.name}: fetch both files again"
        )
    numbers = pa.array(users).dictionary_encode()
    events = Events(np.asarray(numbers.indices), places, times, times)
    facts = {}
    if k_core:
        items, events, facts = events_lib.core(ratings, items, events, k_core)
    names = [str(user) for user in numbers.dictionary.to_pylist()]
    return Records(items, events_lib.histories(events, names, has_times=True), facts)


def _ratings(path: pathlib.Path, found: _Layout) -> list[np.ndarray]:
    """Returns users, movies, ratings and times, each [N]."""
    data = path.read_bytes() if found.delimiter == "::" else path
    if found.delimiter == "::":
        data = pa.BufferReader(data.replace(b"::", b"\t"))
    names = ["user", "movie", "rating", "time"]
    types = dict(zip(names, [pa.int64(), pa.int64(), pa.float32(), pa.int64()], strict=True))
    try:
        table = csv.read_csv(
            data,
            csv.ReadOptions(column_names=names, skip_rows=int(found.has_header)),
            csv.ParseOptions(delimiter="," if found.delimiter == "," else "\t"),
            csv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{path}: {error}: a line must be a user, a movie, a rating and a time"
        ) from error
    return [table.column(name).to_numpy() for name in names]


def _movies(path: pathlib.Path, found: _Layout) -> Iterator[dict]:
    for number, (movie_id, title, genres) in enumerate(_fields(path, found), 1 + found.has_header):
        if not movie_id.isdecimal():
            raise UserError(f"{path}:{number}: {movie_id!r} is no movie's number: fetch it again")
        name, year = title, ""
        if match := _TITLE.fullmatch(title):
            name, year = match.groups()
        fields = {"title": name, "year": year, "genres": text_lib.join_names(genres)}
        record = {"item_id": movie_id, "title": title, "text": text_lib.join_fields(fields)}
        yield record | {"categories": [genres]}


def _fields(path: pathlib.Path, found: _Layout) -> Iterator[tuple[str, str, list[str]]]:
    """Yields id, title and genres of each movie."""
    if found.has_header:
        options = csv.ConvertOptions(column_types=dict.fromkeys("abc", pa.string()))
        read = csv.ReadOptions(column_names=["a", "b", "c"], skip_rows=1)
        parse = csv.ParseOptions(newlines_in_values=True)
        try:
            table = csv.read_csv(path, read, parse, options)
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: {error}: a line must be a movie, title and genres") from error
        for movie_id, title, genres in zip(*(c.to_pylist() for c in table.columns), strict=True):
            names = [] if genres in (None, "", _NO_GENRES) else genres.split("|")
            yield movie_id or "", title or "", names
        return
    text = path.read_bytes().decode(found.encoding).replace("\r\n", "\n")
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        if found.delimiter == "::":
            fields, wanted = line.split("::"), 3
        else:
            fields, wanted = line.split("|"), 5 + len(_GENRES)
        if len(fields) != wanted:
            raise UserError(
                f"{path}:{number}: {len(fields)} fields instead of {wanted}: fetch the file again"
            )
        if found.delimiter == "::":
            genres = fields[2].split("|")
        else:
            genres = [name for name, flag in zip(_GENRES, fields[5:], strict=True) if flag == "1"]
        yield fields[0], fields[1], [genre for genre in genres if genre != "unknown"]
