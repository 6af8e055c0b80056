"""From a data set's name to its corpus."""

import dataclasses
import os
import pathlib

from genrec_jax.data import builder, splits
from genrec_jax.data.corpus import Corpus
from genrec_jax.data.records import Source
from genrec_jax.data.sources import files, synthetic
from genrec_jax.errors import UserError

# Where each set lies below GENREC_DATA_DIR; `files` has no place of its own.
FOLDERS = {
    "beauty": "amazon2014-beauty",
    "sports": "amazon2014-sports",
    "toys": "amazon2014-toys",
    "files": None,
}
NAMES = ("synthetic", *FOLDERS)


def check_name(dataset: str) -> None:
    """Raises UserError unless there is such a data set."""
    if dataset not in NAMES:
        raise UserError(f"unknown data set {dataset!r}: choose one of {', '.join(NAMES)}")


def load(
    cache_dir: str | pathlib.Path,
    *,
    dataset: str,
    dir: str,
    synthetic_shop: dict[str, int],
    split: str,
    valid_share: float,
    test_share: float,
) -> Corpus:
    """Returns a data set's corpus, prepared now or taken from the cache.

    Args:
        cache_dir: holds prepared data sets; any number of runs may share it.
        dataset: one of `NAMES`.
        dir: the folder of the data set in the compact format. If empty, it is looked for in the
            folder that the environment variable GENREC_DATA_DIR names.
        synthetic_shop: the arguments of `synthetic.source`.
        split: one of `splits.NAMES`.
        valid_share, test_share: the arguments of `splits.temporal`.
    """
    _check_split(split, valid_share, test_share)
    check_name(dataset)
    if dataset == "synthetic":
        source = synthetic.source(**synthetic_shop)
    else:
        source = _files(dataset, dir)
    corpus = builder.load(builder.prepare(source, pathlib.Path(cache_dir) / "prepared"))
    if split == "leave_one_out":
        return corpus
    # What the synthetic shop states about itself is about leaving one out.
    facts = {name: value for name, value in corpus.facts.items() if name.startswith("data/")}
    parts = splits.temporal(corpus.offsets, corpus.times, valid_share, test_share)
    return dataclasses.replace(corpus, splits=parts, facts=facts)


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


def _files(dataset: str, directory: str) -> Source:
    root = os.environ.get("GENREC_DATA_DIR")
    if not directory and root and FOLDERS[dataset]:
        directory = os.path.join(root, FOLDERS[dataset])
    if not directory:
        remedy = "give its folder by --config.data.dir"
        if FOLDERS[dataset]:
            remedy += f", or the folder that holds {FOLDERS[dataset]}/ by GENREC_DATA_DIR"
        raise UserError(f"no place known for the data set {dataset}: {remedy}")
    return files.source(directory, dataset)
