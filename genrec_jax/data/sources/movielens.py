"""MovieLens as GroupLens publishes it: a folder in one of these layouts, told by its files.

* 100K: `u.data` (tabs), `u.item` (bars);
* 1M and 10M: `ratings.dat` and `movies.dat`, with `::` between fields;
* latest-small, latest, 20M, 25M and 32M: `ratings.csv` and `movies.csv`, whose first lines name the
  fields, in capitals or not.

Text is UTF-8 or, in the old ones, Latin-1. Every rating is an event, whatever its value; events are
in the order of their times, those of the same time in the order of the file. Movies that nobody has
rated are left out. See `events.to_records` for the rest.
"""

import csv
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa

from genrec_jax.data import event_files, table_files, text_files
from genrec_jax.data import text as text_lib
from genrec_jax.data.records import Records, Source, hash_of_files
from genrec_jax.data.text_files import BadLines
from genrec_jax.errors import UserError

ADDRESS = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
_HOMEPAGE = "https://grouplens.org/datasets/movielens"
CITATION = """\
F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM Transactions on \
Interactive Intelligent Systems 5(4), 2015."""
_VERSION = "1"
_GENRES = (  # of 100K, in the order of its columns, the first of which is "unknown"
    "", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
)  # fmt: skip
_NO_GENRES = "(no genres listed)"
_TITLE = re.compile(r"(.*\S)\s*\((\d{4})\s*[-\u2013]?\s*(?:\d{4})?\)")
_COLUMNS = ("userid", "movieid", "timestamp", "rating")
_MOVIE_COLUMNS = ["movieid", "title", "genres"]


class _Edition(NamedTuple):
    ratings: str
    movies: str
    delimiter: str  # between the fields of a rating
    split_movie: Callable[[str], list[str]]  # id, title and genres with bars between
    has_header: bool


def _split_100k(line: str) -> list[str]:
    fields = line.split("|")
    if len(fields) != 5 + len(_GENRES):
        raise ValueError(f"{len(fields)} fields with bars between, not {5 + len(_GENRES)}")
    genres = (name for name, flag in zip(_GENRES, fields[5:], strict=True) if flag == "1")
    return [fields[0], fields[1], "|".join(genres)]


def _split_csv(line: str) -> list[str]:
    return next(csv.reader([line], strict=True))


_EDITIONS = (
    _Edition("ratings.csv", "movies.csv", ",", _split_csv, True),
    _Edition("ratings.dat", "movies.dat", "::", lambda line: line.split("::"), False),
    _Edition("u.data", "u.item", "\t", _split_100k, False),
)


def source(directory: str, name: str, *, k_core: int, max_bad_lines: int) -> Source:
    """Returns the data set in a folder.

    Args:
        name: of the data set.
        k_core: how many ratings each user and each movie must have; 0 for no such rule.
        max_bad_lines: how many lines may be left out because they cannot be read.

    Raises:
        UserError: if the folder or one of its files is missing, or, while reading, at the first
            bad line that is one too many.
    """
    root = pathlib.Path(directory)
    if not root.is_dir():
        raise UserError(
            f"no folder {root}: give that of MovieLens by --config.data.dir; to get it, download "
            f"{ADDRESS} (or ml-100k, ml-1m, ml-10m, ml-20m, ml-25m or ml-32m) and unpack it"
        )
    edition = next((edition for edition in _EDITIONS if (root / edition.ratings).is_file()), None)
    if edition is None:
        names = " or ".join(edition.ratings for edition in _EDITIONS)
        raise UserError(f"{root} has no {names}: give the folder that was unpacked, or {ADDRESS}")
    paths = [root / edition.ratings, root / edition.movies]
    if not paths[1].is_file():
        raise UserError(f"{root} has {edition.ratings} but no {edition.movies}: unpack it again")
    content_hash = hash_of_files(_VERSION, root, paths, k_core, max_bad_lines)
    return Source(
        name,
        content_hash,
        lambda: _read(edition, *paths, k_core, max_bad_lines),
        CITATION,
        _HOMEPAGE,
    )


def is_in(directory: str) -> bool:
    """Returns whether the ratings of an edition are in the folder.

    `ratings.csv` is a name that others use, so `movies.csv` must be beside it.
    """
    root = pathlib.Path(directory)
    return any(
        (root / edition.ratings).is_file()
        and (not edition.has_header or (root / edition.movies).is_file())
        for edition in _EDITIONS
    )


def _read(
    edition: _Edition, ratings: pathlib.Path, movies: pathlib.Path, k_core: int, max_bad_lines: int
) -> Records:
    def read_items(wanted: set[str], bad_lines: BadLines) -> list[dict]:
        found = _movies(edition, movies, bad_lines)
        return [movie for movie in found if movie["item_id"] in wanted]

    return event_files.read_records(
        ratings,
        _format(edition, ratings),
        read_items,
        k_core=k_core,
        max_bad_lines=max_bad_lines,
    )


def _format(edition: _Edition, ratings: pathlib.Path) -> event_files.Format:
    names = ["userid", "movieid", "rating", "timestamp"]
    if edition.has_header:
        _, first = next(text_files.binary_lines(ratings), (1, b""))
        names = first.decode(errors="replace").strip().lower().split(",")
        table_files.check_columns(ratings, names, _COLUMNS)
    return event_files.csv_format(
        names,
        _COLUMNS,
        edition.delimiter,
        id_type=pa.int64(),
        num_header_lines=int(edition.has_header),
    )


def _movies(edition: _Edition, path: pathlib.Path, bad_lines: BadLines) -> Iterator[dict]:
    """Yields an item record for each movie."""
    numbered = text_files.binary_lines(path)
    if edition.has_header:
        _, first = next(numbered, (1, b""))
        names = first.decode(errors="replace").strip().lower().split(",")
        if names != _MOVIE_COLUMNS:
            raise UserError(
                f"{path}:1: the first line must be movieId,title,genres, not {','.join(names)}: "
                "unpack it again"
            )
    seen: set[str] = set()
    for number, line in numbered:
        try:
            movie = _movie(*_fields(edition, line))
            if movie["item_id"] in seen:
                raise ValueError(f"movie {movie['item_id']} was on a line before")
        except (ValueError, csv.Error) as error:
            bad_lines.add(path, number, error)
        else:
            seen.add(movie["item_id"])
            yield movie


def _fields(edition: _Edition, line: bytes) -> list[str]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    fields = edition.split_movie(text.strip("\r\n"))
    if len(fields) != len(_MOVIE_COLUMNS):
        raise ValueError(f"{len(fields)} fields, not {len(_MOVIE_COLUMNS)}")
    return fields


def _movie(movie_id: str, title: str, genres: str) -> dict:
    if not (movie_id.isascii() and movie_id.isdigit()):
        raise ValueError(f"the movie's id must be a whole number, not {movie_id!r}")
    names = [] if genres == _NO_GENRES else [name for name in genres.split("|") if name]
    match = _TITLE.fullmatch(title.strip())
    name, year = match.groups() if match else (title.strip(), "")
    fields = {"title": name, "year": year, "genres": text_lib.join_names(names)}
    return {
        "item_id": str(int(movie_id)),
        "title": title.strip(),
        "categories": [names],
        "text": text_lib.join_fields(fields),
    }
