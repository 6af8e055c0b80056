"""Published data sets, fetched from where their authors have them.

TFDS's download manager fetches and checks them. Its extractor needs TensorFlow, so archives are
unpacked here.
"""

import logging
import os
import pathlib
import re
import sys
import zipfile

import requests
import tensorflow_datasets as tfds

from genrec_jax import files
from genrec_jax.errors import UserError

MOVIELENS = ("ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small")
_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data"
_AMAZON = {  # events and products of a category
    "2014": (f"{_SNAP}/reviews_{{}}_5.json.gz", f"{_SNAP}/meta_{{}}.json.gz"),
    "2018": (
        f"{_UCSD}/amazon_v2/categoryFilesSmall/{{}}_5.json.gz",
        f"{_UCSD}/amazon_v2/metaFiles2/meta_{{}}.json.gz",
    ),
    "2023": (
        f"{_UCSD}/amazon_2023/benchmark/0core/rating_only/{{}}.csv.gz",
        f"{_UCSD}/amazon_2023/raw/meta_categories/meta_{{}}.jsonl.gz",
    ),
}
# Bytes and SHA-256. TFDS has those of the other editions of MovieLens; for Amazon's files nobody
# states any.
_CHECKSUMS = {
    f"{_GROUPLENS}/ml-10m.zip": (
        65_566_137,
        "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862",
    ),
    f"{_GROUPLENS}/ml-32m.zip": (
        238_950_008,
        "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
    ),
}
_SECONDS_TO_ANSWER = 20
_log = logging.getLogger(__name__)


def addresses(edition: str) -> list[str]:
    """Returns where the files of an edition are.

    Args:
        edition: one of `MOVIELENS`, or a year and a category of Amazon's, such as 2014/Beauty.
    """
    if edition in MOVIELENS:
        return [f"{_GROUPLENS}/{edition}.zip"]
    year, _, category = edition.partition("/")
    if year not in _AMAZON or not re.fullmatch(r"\w+", category, re.ASCII):
        raise UserError(
            f"--config.data.edition={edition} is unknown: give one of {', '.join(MOVIELENS)} for "
            f"movielens, and one of {', '.join(_AMAZON)} with a category, such as 2014/Beauty, for "
            "amazon"
        )
    return [address.format(category) for address in _AMAZON[year]]


def fetch(edition: str, directory: pathlib.Path) -> pathlib.Path:
    """Returns the folder below `directory` with an edition's files, fetched now if it is not there.

    Beside it is a file .json with the sizes and SHA-256 of what was fetched, which for Amazon's
    files are what came, as there is nothing to compare them with.

    Raises:
        UserError: if an address cannot be reached, or has another file than is known.
    """
    place = directory / edition.replace("/", "-")
    if place.is_dir():
        return place
    sources = addresses(edition)
    for address in sources:
        _check_answer(address)
    with files.folder_aside(directory) as aside:
        finished = aside / "finished"
        finished.mkdir()
        fetched = _download(sources, aside)
        contents = {
            address: {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
            for address, path in zip(sources, fetched, strict=True)
        }
        for address, path in zip(sources, fetched, strict=True):
            if address.endswith(".zip"):
                _unpack(path, finished)
            else:
                os.rename(path, finished / address.rpartition("/")[2])
        files.write_json(place.with_name(f"{place.name}.json"), contents)
        os.rename(finished, place)
    _log.info("%s lies in %s, for --config.data.dir", edition, place)
    return place


def _download(sources: list[str], directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the paths of the files at the addresses, under names of TFDS's own."""
    known = {
        address: tfds.download.checksums.UrlInfo(size, digest, address.rpartition("/")[2])
        for address, (size, digest) in _CHECKSUMS.items()
    }
    tfds.display_progress_bar(sys.stderr.isatty())
    manager = tfds.download.DownloadManager(download_dir=directory, url_infos=known)
    try:
        return [pathlib.Path(path) for path in manager.download(sources)]
    except (tfds.download.DownloadError, requests.RequestException) as error:
        raise _unreachable(" and ".join(sources), error) from error
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        raise UserError(
            f"{' and '.join(sources)}: its size or SHA-256 is not that of the file that is known: "
            "try again, or download it and give its folder by --config.data.dir if it has changed"
        ) from error


def _check_answer(address: str) -> None:
    """Raises UserError unless the address answers soon, for TFDS tries ten times, in minutes."""
    try:
        with requests.get(address, stream=True, timeout=_SECONDS_TO_ANSWER) as response:
            response.raise_for_status()
    except requests.RequestException as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> UserError:
    while error.__context__:  # the system's own words, without what libraries put around them
        error = error.__context__
    return UserError(
        f"cannot download {address} ({error}): download it where there is a network, unpack it if "
        "it ends in .zip, and give the folder by --config.data.dir"
    )


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the archive's files to the folder, without folders of their own."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                member.filename = os.path.basename(member.filename)
                archive.extract(member, folder)
