"""Published data sets, fetched from where their authors have them.

TFDS knows the sizes and digests. Its download manager is not used: it waits for ever where a
server falls silent, cannot be interrupted, and begins again each time; its extractor needs
TensorFlow.
"""

import gzip
import logging
import os
import pathlib
import re
import shutil
import zipfile
import zlib

import filelock
import requests
import rich.console
import rich.progress
import tensorflow_datasets as tfds
import urllib3

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
_SECONDS_OF_SILENCE = 20  # after which a server is taken to be out of reach
_BLOCK = 2**20
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

    What was fetched before an interruption is kept, and fetched no more. Any number of processes
    may ask at once: one fetches, the others wait.

    Beside the folder is a file .json with the sizes and SHA-256 of what was fetched, which for
    Amazon's files are what came, as there is nothing to compare them with but their own CRC.

    Raises:
        UserError: if an address cannot be reached, or has another file than is known.
    """
    place = directory / edition.replace("/", "-")
    if place.is_dir():
        return place
    sources = addresses(edition)
    partial = directory / f".{place.name}.partial"
    finished = partial / "finished"
    os.makedirs(directory, exist_ok=True)
    with _lock(place):
        if place.is_dir():  # now
            return place
        fetched = [_fetch_one(address, sources, partial) for address in sources]
        shutil.rmtree(finished, ignore_errors=True)  # of an unpacking that was interrupted
        finished.mkdir()
        contents = {
            address: {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
            for address, path in zip(sources, fetched, strict=True)
        }
        for path in fetched:
            if path.suffix == ".zip":
                _unpack(path, finished)
            else:
                os.rename(path, finished / path.name)
        files.write_json(place.with_name(f"{place.name}.json"), contents)
        os.rename(finished, place)
        shutil.rmtree(partial)
    _log.info("%s lies in %s, for --config.data.dir", edition, place)
    return place


def _lock(place: pathlib.Path) -> filelock.AcquireReturnProxy:
    """Returns the lock on a place, for a `with`, after waiting for those who have it."""
    lock = filelock.FileLock(place.with_name(f".{place.name}.lock"))
    try:
        return lock.acquire(blocking=False)
    except filelock.Timeout:
        _log.info("another process fetches %s: waiting for its end", place)
        return lock.acquire()


def _fetch_one(address: str, sources: list[str], folder: pathlib.Path) -> pathlib.Path:
    """Returns the path of one of the sources in the folder, whole and as it is known."""
    path = folder / address.rpartition("/")[2]
    if path.exists():
        return path
    partial = path.with_name(f"{path.name}.partial")
    try:
        _download(address, partial)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        while error.__context__:  # the system's own words, without what libraries put around them
            error = error.__context__
        what = "it" if len(sources) == 1 else " and ".join(sources)
        raise UserError(
            f"cannot download {address} ({error}): check the edition and the network and give the "
            f"same command again, which goes on from what came, or download {what} elsewhere, "
            "unpack what ends in .zip, and give the folder by --config.data.dir"
        ) from error
    if damage := _damage(address, partial):
        partial.unlink()
        raise UserError(
            f"{address}: {damage}: try again, or download it in a browser and give its folder by "
            "--config.data.dir if it has changed"
        )
    os.rename(partial, path)
    return path


def _download(address: str, path: pathlib.Path) -> None:
    """Writes to the file what is at an address, or only the rest of it if the server gives that."""
    there = path.stat().st_size if path.exists() else 0
    asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    console = rich.console.Console(stderr=True)
    columns = *rich.progress.Progress.get_default_columns(), rich.progress.DownloadColumn()
    with requests.get(address, headers=asked, stream=True, timeout=_SECONDS_OF_SILENCE) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it is there
        response.raise_for_status()
        path.parent.mkdir(exist_ok=True)
        if response.status_code != requests.codes.partial_content:
            there = 0
        size = response.headers.get("Content-Length")
        with (
            path.open("ab" if there else "wb") as file,
            rich.progress.Progress(
                *columns, console=console, disable=not console.is_terminal
            ) as progress,
        ):
            task = progress.add_task(
                path.stem, total=int(size) + there if size else None, completed=there
            )
            # As it comes: some servers call .gz an encoding, which would be undone.
            for block in response.raw.stream(_BLOCK, decode_content=False):
                file.write(block)
                progress.advance(task, len(block))


def _damage(address: str, path: pathlib.Path) -> str | None:
    """Returns what is wrong with a file that was fetched, None if nothing is known to be."""
    known = tfds.download.checksums.get_all_url_infos().get(address)
    known = _CHECKSUMS.get(address) or (known and (known.size, known.checksum))
    if known and known != (path.stat().st_size, files.sha256(path)):
        return "its size or SHA-256 is not that of the file that is known"
    if address.endswith(".gz"):
        try:
            with gzip.open(path) as file:
                while file.read(_BLOCK):
                    pass
        except (OSError, EOFError, zlib.error) as error:
            return f"what came is no whole gzip file ({error})"
    return None


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the archive's files to the folder, without folders of their own."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                member.filename = os.path.basename(member.filename)
                archive.extract(member, folder)
