"""Text files, UTF-8, plain or gzipped (`.gz`)."""

import ast
import contextlib
import gzip
import json
import logging
import pathlib
import re
import warnings
import zlib
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import rich.console
import rich.progress

from genrec_jax.errors import UserError

PRINTED = (b"{'", b"{u'")  # how nearly all lines begin that Python 3 or 2 has printed
_MAX_DEPTH = 100  # of JSON, so that recursion over it ends
_MAX_LITERAL_CHARS = 1 << 20
_MAY_BE_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_TWO_HALVES = re.compile(r"\\\\|\\u([dD][89abAB][\da-fA-F]{2})\\u([dD][c-fC-F][\da-fA-F]{2})")
_BLOCK_BYTES = 1 << 23
# A name and a value of a dictionary that Python has printed, and what follows; no lists or such.
_PAIR = re.compile(
    r"""u?'(\w+)':\ (u?(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")"""
    r"""|True|False|None|-?\d[\d.eE+-]*)(,\ |\}$)""",
    re.ASCII,
)
_log = logging.getLogger(__name__)


class BadLines:
    """The lines of a data set that are left out because they cannot be read, up to a limit."""

    def __init__(self, limit: int):
        self.limit, self.num = limit, 0

    def add(self, path: pathlib.Path, number: int, reason: object) -> None:
        """Counts a line and warns of it, or raises UserError if it is one too many."""
        self.num += 1
        message = f"{path}:{number}: {reason}"
        if self.num <= self.limit:
            _log.warning("%s: left out", message)
            return
        raise UserError(
            f"{message}: correct or remove the line, or have up to {self.num} bad lines left out "
            f"by --config.data.max_bad_lines={self.num}"
        )


def find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the path of a file in the folder, plain or gzipped, if it is there."""
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)


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


def blocks(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """Yields the file in pieces of whole lines, each with the number of its first line, from 1.

    A bar shows how much of the file is read, if there is a terminal.
    """
    first, rest = 1, b""
    with open_binary(path, bar=True) as file:
        while data := file.read(_BLOCK_BYTES):
            head, newline, tail = data.rpartition(b"\n")
            if newline:
                block = rest + head + newline
                yield first, block.removeprefix(b"\xef\xbb\xbf") if first == 1 else block
                first += block.count(b"\n")
                rest = tail
            else:
                rest += tail
    if rest:
        yield first, rest.removeprefix(b"\xef\xbb\xbf") if first == 1 else rest


def binary_lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank, with their numbers from 1, and shows a bar."""
    for first, block in blocks(path):
        yield from numbered_lines(first, block)


def numbered_lines(first: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a block that are not blank, with their numbers."""
    for number, line in enumerate(block.split(b"\n"), first):
        if line.strip():
            yield number, line


def parse_record(line: bytes) -> dict[str, Any]:
    """Returns the object in a line of JSON, or else the dictionary in one that Python has printed.

    The latter is read as a literal and never evaluated; Python itself refuses brackets over 200
    deep.

    Raises:
        ValueError: with what is wrong, if the line is neither.
    """
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error}") from error
    value = _parse_literal(text) if line.lstrip().startswith(PRINTED) else _parse(text)
    if not isinstance(value, dict):
        raise ValueError("not an object of JSON, nor a dictionary of Python")
    return value


def parse_fields(line: bytes, names: Collection[str]) -> dict[str, Any]:
    """Returns what `parse_record` does, or only the fields with these names.

    Of dictionaries that Python has printed, if nothing is nested in them, which is faster by far.
    """
    line = line.strip()
    text = line.decode(errors="replace")
    if line.startswith(PRINTED) and len(text) <= _MAX_LITERAL_CHARS and "\ufffd" not in text:
        found, place = {}, 1
        while pair := _PAIR.match(text, place):
            name, value, end = pair.groups()
            if name in names:
                found[name] = value
            if end == "}":
                return {name: _parse_value(value) for name, value in found.items()}
            place = pair.end()
    return parse_record(line)


def _parse_value(text: str) -> Any:
    if text[-1] in "'\"" and "\\" not in text:
        return text.removeprefix("u")[1:-1]
    return _parse_literal(text)


def _parse_literal(text: str) -> Any:
    if len(text) > _MAX_LITERAL_CHARS:
        raise ValueError(f"over {_MAX_LITERAL_CHARS} characters long")
    if _MAY_BE_HALF.search(text):
        text = _TWO_HALVES.sub(_joined, text)
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes that escape nothing
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a literal of Python: {error}") from error
    if _is_deep(value):
        raise ValueError(f"lists or objects in each other, over {_MAX_DEPTH} deep")
    _refuse_halves(text, value)
    return value


def _joined(match: re.Match[str]) -> str:
    """Returns one escape for two, of which Python 2 made a character where it was built so."""
    if match[0] == r"\\":
        return match[0]
    high, low = (int(half, 16) & 0x3FF for half in match.groups())
    return rf"\U{0x10000 + (high << 10) + low:08x}"


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
        is_deep = line.count("[") + line.count("{") > _MAX_DEPTH and _is_deep(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}: correct the line") from error
    except ValueError as error:  # JSON, but not what Python makes an int of
        raise ValueError("a number has too many digits: shorten it, or write it as text") from error
    except RecursionError:
        is_deep = True
    if is_deep:
        raise ValueError(f"lists or objects in each other, over {_MAX_DEPTH} deep: flatten them")
    _refuse_halves(line, value)
    return value


def _refuse_halves(source: str, value: Any) -> None:
    """Raises ValueError if text in a value, which was read from the source, cannot be written."""
    if not _MAY_BE_HALF.search(source):
        return
    try:
        json.dumps(value, ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(
            f"half a character: {half} is one of two codes that make one, and the other is "
            "missing: remove it"
        ) from error


def _is_deep(value: Any) -> bool:
    layer = [[value]]
    for _ in range(_MAX_DEPTH + 1):
        layer = [
            child
            for parent in layer
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | dict)
        ]
        if not layer:
            return False
    return True


@contextlib.contextmanager
def open_binary(path: pathlib.Path, bar: bool = False) -> Iterator[BinaryIO]:
    """Gives the file's contents, unpacked if its name ends in .gz.

    Args:
        bar: whether to show how much of the file is read, if there is a terminal.
    """
    console = rich.console.Console(stderr=True)
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            if bar and console.is_terminal:
                size = path.stat().st_size
                bar = rich.progress.wrap_file(file, size, description=path.name, console=console)
                file = stack.enter_context(bar)
            yield stack.enter_context(gzip.open(file)) if path.suffix == ".gz" else file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}): fetch or pack it again") from error
