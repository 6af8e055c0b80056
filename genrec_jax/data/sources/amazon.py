"""Amazon reviews as they are published: a folder in one of these layouts, told by its files.

* The archive of P5: `sequential_data.txt`, one user a line, `user item item ...`, numbers from 1;
  `datamaps.json`, whose `id2user` and `id2item` give their Amazon ids; `meta.json.gz`, products.
* The editions of 2014 and 2018: reviews (`reviews_Beauty_5.json.gz`, `Luxury_Beauty_5.json.gz`)
  and products (`meta_Beauty.json.gz`).
* The edition of 2023: reviews (`All_Beauty.jsonl.gz`), or who rated what (`All_Beauty.csv`, or its
  parts `All_Beauty.train.csv`, `.valid.csv` and `.test.csv`), and products
  (`meta_All_Beauty.jsonl.gz`, or `raw_meta_All_Beauty/full-*.parquet`), in any folders below.

Lines are JSON or, as in the products of 2014, dictionaries that Python has printed. All but Parquet
may be gzipped or not.

As in P5, every review is an event, whatever its rating, also of a product that the user has
reviewed before; events are in the order of their times, those of the same time in the order of the
file. But those with the same user, product and time are one, which P5 never met: in the 2014 files
nobody reviews a product twice. See `events.to_records` for the rest.
"""

import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec_jax import files
from genrec_jax.data import event_files, product_fields, table_files, text_files
from genrec_jax.data import events as events_lib
from genrec_jax.data.events import Events
from genrec_jax.data.records import Records, Source, hash_of_files
from genrec_jax.data.splits import UNKNOWN_TIME
from genrec_jax.data.text_files import BadLines
from genrec_jax.errors import UserError

P5_ADDRESS = "https://drive.google.com/file/d/1qGxgmx7G_WB7JE4Cn_bEcZ_o_NAJLE3G (P5_data.zip)"
ADDRESSES = (
    "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles (2014), "
    "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2 (2018), "
    "https://amazon-reviews-2023.github.io or "
    "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023 (2023)"
)
CITATION = """\
J. McAuley, C. Targett, Q. Shi and A. van den Hengel, Image-Based Recommendations on Styles and \
Substitutes, SIGIR 2015, and R. He and J. McAuley, Ups and Downs: Modeling the Visual Evolution of \
Fashion Trends with One-Class Collaborative Filtering, WWW 2016 (edition of 2014); J. Ni, J. Li \
and J. McAuley, Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained \
Aspects, EMNLP 2019 (2018); Y. Hou et al., Bridging Language and Items for Retrieval and \
Recommendation, 2024 (2023); S. Geng et al., Recommendation as Language Processing, RecSys 2022 \
(the archive of P5)."""
_HOMEPAGE = "https://cseweb.ucsd.edu/~jmcauley/datasets.html"
_VERSION = "1"
_SEQUENCES = ("sequential_data.txt", "sequential_data.txt.gz")
_JSON = re.compile(r"\.jsonl?(\.gz)?$")
_CSV = re.compile(r"\.csv(\.gz)?$")
_PARTS = ("train", "valid", "test")
_PART = re.compile(rf"\.({'|'.join(_PARTS)})(?=\.csv)")
_OLD_KEYS, _NEW_KEYS = (
    ("reviewerID", "asin", "unixReviewTime"),
    ("user_id", "parent_asin", "timestamp"),
)
_PER_SECOND = {_OLD_KEYS: 1, _NEW_KEYS: 1000}
_FIRST_ASIN = re.compile(rb"\{'asin': '(\w+)'")
_PRODUCT_COLUMNS = (
    "parent_asin", "title", "store", "categories", "main_category", "price", "description",
)  # fmt: skip


class _Layout(NamedTuple):
    """The files of a data set; `maps` is there in the archive of P5 alone."""

    events: list[pathlib.Path]
    products: list[pathlib.Path]
    maps: pathlib.Path | None


def source(directory: str, name: str, *, k_core: int, max_bad_lines: int) -> Source:
    """Returns the data set in a folder.

    Args:
        name: of the data set.
        k_core: how many events each user and each item must have; 0 for no such rule. Files whose
            names end in _5, and 5core, have been filtered by 5.
        max_bad_lines: how many lines may be left out because they cannot be read.

    Raises:
        UserError: if the folder or one of its files is missing or superfluous, or, while reading,
            at the first bad line that is one too many.
    """
    root = pathlib.Path(directory)
    if not root.is_dir():
        raise UserError(
            f"no folder {root}: give the folder of one data set by --config.data.dir; to get one, "
            f"download {P5_ADDRESS} for beauty, sports or toys, or one category's reviews and meta "
            f"from {ADDRESSES}, and unpack it"
        )
    layout = _find(root)
    paths = [*layout.events, *layout.products, *filter(None, [layout.maps])]
    content_hash = hash_of_files(_VERSION, root, paths, k_core, max_bad_lines)
    return Source(
        name, content_hash, lambda: _read(layout, k_core, max_bad_lines), CITATION, _HOMEPAGE
    )


def is_in(directory: str) -> bool:
    """Returns whether P5's sequences, or products of any edition, are in the folder."""
    root = pathlib.Path(directory)
    return any((root / name).is_file() for name in _SEQUENCES) or any(map(_is_meta, _files(root)))


def _find(root: pathlib.Path) -> _Layout:
    sequences = next((root / name for name in _SEQUENCES if (root / name).is_file()), None)
    if sequences:
        maps, meta = root / "datamaps.json", [root / "meta.json.gz", root / "meta.json"]
        meta = [path for path in meta if path.is_file()]
        for is_there, name in ((maps.is_file(), maps.name), (meta, "meta.json.gz")):
            if not is_there:
                raise UserError(f"{root} has {sequences.name} but no {name}: unpack P5's whole")
        return _Layout([sequences], meta[:1], maps)
    found = _files(root)
    is_meta = {path: _is_meta(path) for path in found}
    products = [path for path in found if is_meta[path]]
    events = [
        path for path in found if not is_meta[path] and (_JSON.search(path.name) or _is_csv(path))
    ]
    # Products first: any table might be reviews, so of a wrong folder it would say that there are
    # several.
    products = _only(root, products, "products, such as meta_Beauty.json.gz")
    events = _only(root, events, "reviews, such as reviews_Beauty_5.json.gz or All_Beauty.jsonl.gz")
    return _Layout(events, products, None)


def _files(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns what is in the folder and below, but hidden files, relative to it."""
    found = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.parts)]


def _is_meta(path: pathlib.Path) -> bool:
    if path.suffix == ".parquet":
        return any(part.startswith("raw_meta_") for part in path.parts)
    return path.name.startswith("meta_") and bool(_JSON.search(path.name))


def _is_csv(path: pathlib.Path) -> bool:
    return bool(_CSV.search(path.name))


def _only(root: pathlib.Path, paths: Sequence[pathlib.Path], what: str) -> list[pathlib.Path]:
    """Returns the files, which must be one, or the parts of one."""
    wholes = {
        path.parent if path.suffix == ".parquet" else path.parent / _PART.sub("", path.name)
        for path in paths
    }
    if len(wholes) == 1:
        return [root / path for path in sorted(paths, key=_part)]
    if wholes:
        raise UserError(
            f"{root} has several files of {what.partition(',')[0]}: "
            f"{table_files.listed(sorted(map(str, wholes)))}: keep one in the folder"
        )
    raise UserError(
        f"{root} has no file of {what}, nor sequential_data.txt of P5, nor items.jsonl of the "
        "compact format: give a folder that has the files of one data set, see docs/data.md"
    )


def _part(path: pathlib.Path) -> int:
    match = _PART.search(path.name)
    return _PARTS.index(match[1]) if match else 0


def _read(layout: _Layout, k_core: int, max_bad_lines: int) -> Records:
    bad_lines = BadLines(max_bad_lines)
    if layout.maps:
        events, user_names, item_names = _p5_events(layout.events[0], layout.maps, bad_lines)
    else:
        form, per_second = _format(layout.events[0])
        columns = event_files.read(layout.events, form, bad_lines)
        events, user_names, item_names = (
            columns.events(per_second), columns.user_names, columns.item_names
        )  # fmt: skip

    def read_items(wanted: set[str]) -> list[dict]:
        items: dict[str, dict] = {}
        for path in layout.products:
            for asin, product in _products(path, wanted, bad_lines):
                if asin in wanted and asin not in items:  # some are there several times
                    items[asin] = product_fields.item_record(asin, product)
        if layout.maps:
            return [items[asin] for asin in item_names.to_pylist() if asin in items]
        return list(items.values())

    records = events_lib.to_records(
        events,
        user_names,
        item_names,
        read_items,
        has_times=layout.maps is None,
        k_core=k_core,
        where=str(layout.events[0]),
    )
    records.facts["data/num_bad_lines"] = bad_lines.num
    return records


def _format(path: pathlib.Path) -> tuple[event_files.Format, int]:
    """Returns how a file of reviews is read, and how many of its units of time are a second."""
    _, block = next(text_files.blocks(path), (1, b""))
    if not _is_csv(path):
        keys = _NEW_KEYS if b"parent_asin" in block else _OLD_KEYS
        return event_files.json_format(*keys), _PER_SECOND[keys]
    names = block.partition(b"\n")[0].decode(errors="replace").strip().split(",")
    table_files.check_columns(path, names, (*_NEW_KEYS, "rating"))
    form = event_files.csv_format(
        names, (*_NEW_KEYS, "rating"), ",", id_type=pa.string(), num_header_lines=1
    )
    return form, _PER_SECOND[_NEW_KEYS]


def _products(
    path: pathlib.Path, wanted: set[str], bad_lines: BadLines
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the products of a file with their ids, those wanted and maybe others."""
    if path.suffix == ".parquet":
        yield from _parquet_products(path, wanted)
        return
    for number, line in text_files.binary_lines(path):
        first = _FIRST_ASIN.match(line)
        if first and first[1].decode(errors="replace") not in wanted:
            continue  # literals of Python take long to read, and most products are not wanted
        try:
            product = text_files.parse_record(line)
            asin = product.get("parent_asin") or product.get("asin")
            if not isinstance(asin, str):
                raise ValueError("a product without asin or parent_asin")
        except ValueError as error:
            bad_lines.add(path, number, error)
        else:
            yield asin, product


def _parquet_products(path: pathlib.Path, wanted: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    value_set = pa.array(sorted(wanted), pa.string())
    with table_files.open_parquet(path) as file:
        names = file.schema_arrow.names
        table_files.check_columns(path, names, ["parent_asin"])
        columns = [name for name in _PRODUCT_COLUMNS if name in names]
        for batch in file.iter_batches(columns=columns):
            ids = batch["parent_asin"].cast(pa.string())
            for product in batch.filter(pc.is_in(ids, value_set=value_set)).to_pylist():
                yield product["parent_asin"], product


def _p5_events(
    path: pathlib.Path, maps_path: pathlib.Path, bad_lines: BadLines
) -> tuple[Events, pa.Array, pa.Array]:
    """Returns the events and the names of users and items, the latter in the order of numbers."""
    try:
        maps = files.read_json(maps_path)
        id_to_user, id_to_item = maps["id2user"], maps["id2item"]
        numbers = sorted(id_to_item, key=int)
        item_names = pa.array(map(id_to_item.get, numbers), pa.string())
        pa.array(id_to_user.values(), pa.string())
    except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise UserError(
            f"{maps_path}: not the maps of P5, id2user and id2item from numbers to Amazon ids: "
            f"{error!r}: unpack the archive again"
        ) from error
    place = {number: place for place, number in enumerate(numbers)}
    histories: dict[str, list[int]] = {}
    for number, line in text_files.binary_lines(path):
        user, *items = line.decode(errors="replace").split()
        unknown = next((item for item in items if item not in place), None)
        if user not in id_to_user or unknown:
            what = f"item {unknown}" if unknown else f"user {user}"
            bad_lines.add(path, number, f"{what} is not in {maps_path.name}")
        elif user in histories:
            bad_lines.add(path, number, f"user {user} was on a line before")
        else:
            histories[user] = [place[item] for item in items]
    lengths = [len(items) for items in histories.values()]
    if not sum(lengths):
        raise UserError(f"{path} has no events: unpack the archive again")
    users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    items = np.fromiter(itertools.chain(*histories.values()), np.int32)
    events = Events(users, items, np.arange(len(users)), np.full(len(users), UNKNOWN_TIME))
    return events, pa.array(map(id_to_user.get, histories), pa.string()), item_names
