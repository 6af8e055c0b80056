"""Text files, UTF-8, plain or gzipped (`.gz`)."""

import contextlib
import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from genrec_jax.errors import UserError

_MAX_DEPTH = 100  # of JSON, so that recursion over it ends
_MAY_BE_HALF = re.compile(r"\\u[dD][89a-fA-F]")


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
                raise UserError(f"{path}:{number}: not UTF-8: {error}: save it as UTF-8") from error


def json_lines(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
    """Yields the values of the lines that are not blank, with their numbers from 1.

    Raises:
        UserError: at the first line that is not JSON, or whose text cannot be written or whose
            numbers or brackets cannot be read.
    """
    for number, line in lines(path):
        try:
            value = _parse(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}") from error
        yield number, value


def _parse(line: str) -> Any:
    """Returns the value of a line of JSON, or raises ValueError with what is wrong."""
    try:
        value = json.loads(line)
        if _MAY_BE_HALF.search(line):
            json.dumps(value, ensure_ascii=False).encode()
        is_deep = line.count("[") + line.count("{") > _MAX_DEPTH and _is_deep(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}: correct the line") from error
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(
            f"half a character: {half} is one of two codes that make one, and the other is "
            "missing: remove it"
        ) from error
    except ValueError as error:  # JSON, but not what Python makes an int of
        raise ValueError("a number has too many digits: shorten it, or write it as text") from error
    except RecursionError:
        is_deep = True
    if is_deep:
        raise ValueError(f"lists or objects in each other, over {_MAX_DEPTH} deep: flatten them")
    return value


def _is_deep(value: Any) -> bool:
    layer = [[value]]
    for _ in range(_MAX_DEPTH + 1):
        layer = [
            child
            for parent in layer
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | dict)
        ]
    return bool(layer)


@contextlib.contextmanager
def open_binary(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Gives the file's contents, unpacked if its name ends in .gz."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}): fetch or pack it again") from error
