"""From a data set's name to its corpus."""

import dataclasses
import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any

from genrec_jax import distributed
from genrec_jax.data import builder, cold_start, downloads, splits
from genrec_jax.data.corpus import Corpus
from genrec_jax.data.records import Source
from genrec_jax.data.sources import amazon, files, movielens, steam, synthetic, tables, yelp
from genrec_jax.errors import UserError

# Where each set lies below GENREC_DATA_DIR. `amazon` is any category, and `files` any folder, or
# tables: they have no place of their own, nor has MovieLens, of any edition.
FOLDERS = {
    "beauty": "amazon2014-beauty",
    "sports": "amazon2014-sports",
    "toys": "amazon2014-toys",
    "amazon": None,
    "movielens": None,
    "files": None,
}
NAMES = ("synthetic", *FOLDERS)
# What is downloaded if there is no folder and no other edition is asked for.
_EDITIONS = {
    "beauty": "2014/Beauty",
    "sports": "2014/Sports_and_Outdoors",
    "toys": "2014/Toys_and_Games",
    "movielens": "ml-latest-small",
}

# Settings that runs of before there were such do not have.
_BEFORE = {"cold_share": 0.0, "cold_seed": 0, "max_bad_lines": 0, "edition": ""}


def check_name(dataset: str) -> None:
    """Raises UserError unless there is such a data set."""
    if dataset not in NAMES:
        raise UserError(f"unknown data set {dataset!r}: choose one of {', '.join(NAMES)}")


def load(
    cache_dir: str | pathlib.Path,
    *,
    dataset: str,
    dir: str,
    edition: str,
    items_file: str,
    interactions: str,
    item_id: str,
    user_id: str,
    time: str,
    text: str,
    k_core: int,
    max_bad_lines: int,
    synthetic_shop: dict[str, int],
    split: str,
    valid_share: float,
    test_share: float,
    cold_share: float,
    cold_seed: int,
) -> Corpus:
    """Returns a data set's corpus, prepared now or taken from the cache.

    Args:
        cache_dir: holds prepared data sets; any number of runs may share it.
        dataset: one of `NAMES`.
        dir: the folder of the data set: of `files` in any layout that `recognise` knows, of
            `movielens` as GroupLens has it, of the others as Amazon reviews are published, or in
            the compact format. If empty, it is looked for in the folder that the environment
            variable GENREC_DATA_DIR names, and downloaded without this.
        edition: of `movielens` and `amazon`, what to download, see `downloads.addresses`.
        items_file, interactions, item_id, user_id, time, text: arguments of `tables.source`, from
            which `files` is read if the first two are given instead of `dir`.
        k_core: of tables, and of files as they are published: how many events each user and each
            item must have; 0 for no such rule.
        max_bad_lines: of files as they are published: how many lines may be left out because they
            cannot be read.
        synthetic_shop: the arguments of `synthetic.source`.
        split: one of `splits.NAMES`.
        valid_share, test_share: the arguments of `splits.temporal`.
        cold_share, cold_seed: the arguments of `cold_start.hold_out_items`; 0 holds none out.
    """
    _check_split(split, valid_share, test_share)
    _check_cold(cold_share, cold_seed)
    check_name(dataset)
    of_tables = {"items": items_file, "interactions": interactions, "text": text}
    _check_tables(dataset, dir, of_tables)
    _check_edition(dataset, dir, edition)
    of_raw_files = {"k_core": k_core, "max_bad_lines": max_bad_lines}
    if dataset == "synthetic":
        _check_none(of_raw_files, "the data set synthetic is generated")
        source = synthetic.source(**synthetic_shop)
    elif items_file:
        _check_none({"max_bad_lines": max_bad_lines}, "tables are read whole")
        source = tables.source(
            item_id=item_id, user_id=user_id, time=time, k_core=k_core, **of_tables
        )
    else:
        source = _folder(dataset, _place(dataset, dir, edition, cache_dir), of_raw_files)
    prepared = pathlib.Path(cache_dir) / "prepared"
    corpus = builder.load(
        distributed.first_before_others(lambda: builder.prepare(source, prepared))
    )
    if split == "temporal":
        # What the synthetic shop states about itself is about leaving one out.
        facts = {name: value for name, value in corpus.facts.items() if name.startswith("data/")}
        parts = splits.temporal(corpus.offsets, corpus.times, valid_share, test_share)
        corpus = dataclasses.replace(corpus, splits=parts, facts=facts)
    return cold_start.hold_out_items(corpus, cold_share, cold_seed) if cold_share else corpus


def load_again(cache_dir: str | pathlib.Path, settings: Mapping[str, Any]) -> Corpus:
    """Returns the corpus of a finished run, which may be an older one, by its `config.data`."""
    return load(cache_dir, **_BEFORE | settings)


def _check_split(split: str, valid_share: float, test_share: float) -> None:
    if split not in splits.NAMES:
        raise UserError(
            f"--config.data.split={split!r} is unknown: choose one of {', '.join(splits.NAMES)}"
        )
    if not (valid_share > 0 and test_share > 0 and valid_share + test_share < 1):
        raise UserError(
            f"--config.data.valid_share={valid_share} and test_share={test_share} must be above 0, "
            "and their sum below 1"
        )


def _check_cold(cold_share: float, cold_seed: int) -> None:
    if not 0 <= cold_share < 1:
        raise UserError(f"--config.data.cold_share={cold_share} must be at least 0 and below 1")
    if cold_seed < 0:
        raise UserError(f"--config.data.cold_seed={cold_seed} must be at least 0")


def _check_tables(dataset: str, directory: str, of_tables: dict[str, str | int]) -> None:
    """Raises UserError if settings of tables are given in part, or where no tables are read."""
    given = [f"--config.data.{name}" for name, value in of_tables.items() if value]
    if not given:
        return
    if dataset != "files":
        raise UserError(
            f"{given[0]} is for tables, and the data set {dataset} is none: choose the data set "
            "files, or leave it out"
        )
    if directory:
        raise UserError(
            f"{given[0]} is for tables, and --config.data.dir for a folder: leave one of them out"
        )
    for name in ("items", "interactions"):
        if not of_tables[name]:
            raise UserError(
                f"{given[0]} is given without --config.data.{name}: tables are two, of items and "
                "of interactions"
            )


def _check_edition(dataset: str, directory: str, edition: str) -> None:
    """Raises UserError if an edition is given that is unknown, or not to be downloaded."""
    if not edition:
        return
    if dataset not in ("movielens", "amazon"):
        raise UserError(
            f"--config.data.edition={edition} is for the data sets movielens and amazon, not for "
            f"{dataset}: leave it out"
        )
    if directory:
        raise UserError(
            f"--config.data.edition={edition} is to be downloaded, and --config.data.dir names a "
            "folder: leave one of them out"
        )
    downloads.addresses(edition)
    if (edition in downloads.MOVIELENS) != (dataset == "movielens"):
        raise UserError(f"--config.data.edition={edition} is none of {dataset}: choose another")


def _check_none(settings: dict[str, int], reason: str) -> None:
    """Raises UserError for the first setting that is given, though it has no meaning here."""
    for name, value in settings.items():
        if value:
            raise UserError(f"--config.data.{name}={value}: {reason}: leave it out")


def _place(dataset: str, directory: str, edition: str, cache_dir: str | pathlib.Path) -> str:
    """Returns the folder of a data set, downloaded if no place is known."""
    root = os.environ.get("GENREC_DATA_DIR")
    if not directory and root and FOLDERS[dataset]:
        directory = os.path.join(root, FOLDERS[dataset])
    if directory:
        return directory
    edition = edition or _EDITIONS.get(dataset, "")
    if edition:
        folder = pathlib.Path(cache_dir) / "downloads"
        return str(distributed.first_before_others(lambda: downloads.fetch(edition, folder)))
    remedy = "give its folder by --config.data.dir, or "
    if dataset == "files":
        remedy += "its tables by --config.data.items and --config.data.interactions"
    else:
        remedy += "what to download by --config.data.edition, such as 2023/All_Beauty"
    raise UserError(f"no place known for the data set {dataset}: {remedy}")


def _folder(dataset: str, directory: str, settings: dict[str, int]) -> Source:
    """Returns the data set in a folder, in whichever of the data set's layouts it is."""
    for name, value in settings.items():
        if value < 0:
            raise UserError(f"--config.data.{name}={value} must be at least 0")
    if dataset == "files":
        layout = recognise(directory)
    elif dataset == "movielens":
        layout = movielens
    else:
        layout = files if files.is_in(directory) else amazon
    if layout is not files:
        return layout.source(directory, dataset, **settings)
    _check_none(settings, f"{directory} is read in the compact format, as it is")
    return files.source(directory, dataset)


def recognise(directory: str) -> types.ModuleType:
    """Returns the module of `sources` whose layout a folder has, by the files that are in it.

    Raises:
        UserError: if there is no such folder, or none of a layout's files is in it.
    """
    if not os.path.isdir(directory):
        raise UserError(
            f"no folder {directory}: give the folder of one data set by --config.data.dir"
        )
    for layout in (files, movielens, amazon, yelp, steam):
        if layout.is_in(directory):
            return layout
    raise UserError(
        f"{directory} has the files of no known data set: looked for items.jsonl and sequences.txt "
        "(compact), ratings.csv with movies.csv, ratings.dat or u.data (MovieLens), "
        "sequential_data.txt (P5), and meta_NAME.json or .jsonl, maybe .gz, or "
        "raw_meta_NAME/*.parquet, beside reviews (Amazon), "
        "yelp_academic_dataset_review.json (Yelp) and steam_reviews.json (Steam); name two tables "
        "by --config.data.items and --config.data.interactions"
    )
