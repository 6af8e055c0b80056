"""Speed and memory of reading raw files into a prepared data set.

    python -m benchmarks.preparation [--smoke] [--output=FILE.json]

The files are random, in the formats of MovieLens 32M (32 M ratings of 88 k movies) and of Amazon
reviews of 2014 (10 M reviews of 400 k products). GB is the most memory of the process so far, so
what takes less comes first. The hash of the files is counted, the way back to memory is not.
"""

import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from benchmarks import common
from genrec_jax import telemetry
from genrec_jax.data import builder
from genrec_jax.data.sources import amazon, movielens

_FIRST, _LAST = 8 * 10**8, 14 * 10**8  # times, in seconds
_CHUNK = 10**5  # lines that are written at once


def run(smoke: bool, output: str | None, arguments: list[str]) -> None:
    """Measures all cases, prints a table, and writes JSON to `output` unless it is None."""
    if output is not None:
        common.check_writable(output)
    columns = {
        "s": lambda case: f"{case['median_seconds']:.3g}",
        "rate": lambda case: f"{common.short(case['rate'])} {case['unit']}",
        "GB": lambda case: f"{case['facts']['peak_bytes'] / 1e9:.3g}",
    }
    common.write_report("preparation", smoke, arguments, _cases(smoke), columns, output)


def _cases(smoke: bool) -> Iterator[dict[str, Any]]:
    """Yields the cases; each is measured before the next one is made."""
    for name, write, source, shape in (
        ("reviews", write_reviews, amazon.source, (10**7, 1_500_000, 400_000)),
        ("ratings", write_ratings, movielens.source, (32 * 10**6, 200_948, 87_585)),
    ):
        num_events, num_users, num_items = (2_000, 100, 50) if smoke else shape
        with tempfile.TemporaryDirectory() as scratch:
            raw, prepared = pathlib.Path(scratch, "raw"), pathlib.Path(scratch, "prepared")
            raw.mkdir()
            write(raw, *draw(num_events, num_users, num_items), num_items)
            started = time.perf_counter()
            builder.prepare(source(str(raw), name, k_core=0, max_bad_lines=0), prepared)
            seconds = time.perf_counter() - started
        facts = {"peak_bytes": telemetry.peak_host_bytes()}
        case = f"{common.short(num_events)} {name}"
        yield common.result(case, [seconds], num_events, "events", facts)


def draw(
    num_events: int, num_users: int, num_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns users, items and times [N]: some have very many events, most have few."""
    rng = np.random.default_rng(0)
    users = rng.zipf(1.5, num_events) % num_users
    items = rng.zipf(1.3, num_events) % num_items
    return users, items, rng.integers(_FIRST, _LAST, num_events)


def write_ratings(folder: pathlib.Path, users, items, times, num_items: int) -> None:
    """Writes the files of MovieLens 32M."""
    columns = {"userId": users, "movieId": items, "rating": np.full(len(users), 3.5)}
    with (folder / "ratings.csv").open("wb") as file:
        file.write(b"userId,movieId,rating,timestamp\n")
        table = pa.table(columns | {"timestamp": times})
        csv.write_csv(table, file, csv.WriteOptions(include_header=False))
    lines = [f"{item},Movie {item} (1995),Comedy|Drama\n" for item in range(num_items)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "".join(lines))


def write_reviews(folder: pathlib.Path, users, items, times, num_items: int) -> None:
    """Writes the files of Amazon reviews of 2014, not gzipped."""
    with (folder / "reviews_Things_5.json").open("w") as file:
        for first in range(0, len(users), _CHUNK):
            part = slice(first, first + _CHUNK)
            rows = zip(users[part], items[part], times[part], strict=True)
            file.writelines(
                f'{{"reviewerID": "A{user:013d}", "asin": "B{item:09d}", "helpful": [0, 0], '
                '"reviewText": "It works well, and I would buy it again.", "overall": 5.0, '
                f'"unixReviewTime": {time}}}\n'
                for user, item, time in rows
            )
    with (folder / "meta_Things.json").open("w") as file:
        file.writelines(
            f"{{'asin': 'B{item:09d}', 'title': 'Thing {item}', 'price': 3.5}}\n"
            for item in range(num_items)
        )


if __name__ == "__main__":
    common.start(run)
