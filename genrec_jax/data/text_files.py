"""Text files, UTF-8, plain or gzipped (`.gz`)."""

import contextlib
import gzip
import pathlib
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from genrec_jax.errors import UserError


def lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank, with their numbers from 1."""
    return ((number, line) for number, line in enumerate(all_lines(path), 1) if line.strip())


def all_lines(path: pathlib.Path) -> Iterator[str]:
    """Yields every line with its end."""
    with open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:  # line by line, for a text file decodes ahead and cannot tell where it failed
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: not UTF-8: {error}") from error


@contextlib.contextmanager
def open_binary(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Gives the file's contents, unpacked if its name ends in .gz."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}): fetch or pack it again") from error
