"""Files that are either whole or absent."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

DIGESTS = "digests.json"


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a path beside `path` to write to, and renames it to `path` unless the block raises.

    So no reader sees a part of the file, and nothing is left of one that was not finished.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, for other processes may be writing the same file.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        with partial.open("rb") as file:  # or a power cut could leave the new name without contents
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_aside(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a new folder below `directory`, and removes it in any case."""
    aside = directory / f".{uuid.uuid4().hex}.partial"
    os.makedirs(aside)  # which, unlike pathlib, names in its errors the first folder refused
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: str | os.PathLike) -> Any:
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))


def flatten(tree: dict, prefix: str = "") -> dict:
    """Returns what is in dicts in each other as one, with dotted keys."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def sha256(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_folder(path: str | os.PathLike) -> str:
    """Returns a hash of the names and contents of all files below a folder, but hidden ones."""
    folder, total = pathlib.Path(path), hashlib.sha256()
    names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    for name in names:
        if not any(part.startswith(".") for part in name.parts):  # such as those of git
            total.update(f"{name.as_posix()}\0{sha256(folder / name)}\0".encode())
    return total.hexdigest()


def digest(*arrays: np.ndarray) -> str:
    """Returns a hash of the arrays' shapes, types and contents."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()[:16]


def write_digests(path: pathlib.Path, pattern: str) -> None:
    """Writes the digests of the matching files below `path`; what has none is not finished."""
    written = sorted(file for file in path.glob(pattern) if file.is_file())
    digests = {file.relative_to(path).as_posix(): sha256(file) for file in written}
    write_json(path / DIGESTS, digests)


def damage(path: pathlib.Path) -> str | None:
    """Returns what is wrong with the files below `path`, None if they are those written."""
    if not (path / DIGESTS).is_file():
        return f"{path / DIGESTS} is missing"
    try:
        digests = read_json(path / DIGESTS)
    except ValueError:
        digests = None
    if not isinstance(digests, dict):
        return f"{path / DIGESTS} is damaged"
    for name, digest in digests.items():
        if not (path / name).is_file():
            return f"{path / name} is missing"
        if sha256(path / name) != digest:
            return f"{path / name} is damaged"
    return None
