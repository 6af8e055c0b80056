"""From a data set's name to its corpus."""

import os
import pathlib

from genrec_jax.data import builder
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
    cache_dir: str | pathlib.Path, *, dataset: str, dir: str, synthetic_shop: dict[str, int]
) -> Corpus:
    """Returns a data set's corpus, prepared now or taken from the cache.

    Args:
        cache_dir: holds prepared data sets; any number of runs may share it.
        dataset: one of `NAMES`.
        dir: the folder of the data set in the compact format. If empty, it is looked for in the
            folder that the environment variable GENREC_DATA_DIR names.
        synthetic_shop: the arguments of `synthetic.source`.
    """
    check_name(dataset)
    if dataset == "synthetic":
        source = synthetic.source(**synthetic_shop)
    else:
        source = _files(dataset, dir)
    return builder.load(builder.prepare(source, pathlib.Path(cache_dir) / "prepared"))


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
