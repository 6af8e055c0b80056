"""Embeddings that the user computed: an .npy array or a Parquet table.

* `.npy`: [I, E] numbers, one row an item, in the catalogue's order.
* `.parquet`: one row an item, in any order, with the columns `item_id` and `embedding`, a list of
  E numbers. Ids are compared as text; items that the catalogue lacks are ignored.
"""

import collections
import logging
import pathlib
import tokenize
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec_jax import files
from genrec_jax.data import table_files
from genrec_jax.errors import UserError

_COLUMNS = ["item_id", "embedding"]
_log = logging.getLogger(__name__)


def checksum(path: str) -> str:
    """Returns the file's hash. Raises UserError if there is no such file."""
    if not path or not pathlib.Path(path).is_file():
        raise UserError(
            f"no file {path!r} of precomputed embeddings: give an .npy or a .parquet by "
            "--config.embedder.path"
        )
    return files.sha256(path)


def read(path: str, item_ids: list[str]) -> np.ndarray:
    """Returns [I, E] float32 embeddings of the catalogue's I items, in its order.

    Raises:
        UserError: unless the file has one embedding for each item, all of the same width, and every
            value is a finite number in float32.
    """
    if pathlib.Path(path).suffix == ".parquet":
        embeddings, rows = _read_parquet(path, item_ids)
    else:
        embeddings, rows = _read_npy(path, len(item_ids)), range(len(item_ids))
    if not embeddings.shape[1]:
        raise UserError(f"{path}: the embeddings have no values: give each item some")
    with np.errstate(over="ignore"):
        embeddings = embeddings.astype(np.float32)
    is_finite = np.isfinite(embeddings).all(axis=1)  # [I]
    if not is_finite.all():
        item = int(is_finite.argmin())
        raise UserError(
            f"{path}: every value must be a finite number in float32, but row {rows[item]} "
            f"(from 0), of item {item_ids[item]}, is not"
        )
    return embeddings


def _read_npy(path: str, num_items: int) -> np.ndarray:
    try:
        embeddings = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile, tokenize.TokenError) as error:
        raise UserError(
            f"{path} is neither an .npy array of numbers, whole and as numpy.save writes it, nor a "
            ".parquet table: give one of them"
        ) from error
    if not isinstance(embeddings, np.ndarray) or embeddings.ndim != 2:
        raise UserError(f"{path}: expected one array [items, width], one row an item")
    if len(embeddings) != num_items:
        raise UserError(
            f"{path} has {len(embeddings)} rows, the catalogue has {num_items} items: give one "
            "row an item, in the catalogue's order"
        )
    if not np.can_cast(embeddings.dtype, np.float64):
        raise UserError(f"{path}: every value must be a number, not {embeddings.dtype}")
    return embeddings


def _read_parquet(path: str, item_ids: list[str]) -> tuple[np.ndarray, list[int]]:
    """Returns [I, E] numbers of any type, and the row of the file that each item has."""
    table = _read_table(path)
    found = _ids(path, table["item_id"])
    row_of = {item_id: row for row, item_id in enumerate(found)}
    if len(row_of) < len(found):
        repeated = [item_id for item_id, n in collections.Counter(found).items() if n > 1]
        raise UserError(
            f"{path} has more than one row for {len(repeated)} of its items ({_first(repeated)}): "
            "keep one each"
        )
    missing = [item_id for item_id in item_ids if item_id not in row_of]
    if missing:
        raise UserError(
            f"{path} has no row for {len(missing)} of the catalogue's {len(item_ids)} items "
            f"({_first(missing)}): add them; the file's ids are {_first(found) or 'none'}"
        )
    if len(found) > len(item_ids):
        surplus = len(found) - len(item_ids)
        _log.info("%s: ignored %d rows of items that the catalogue lacks", path, surplus)
    rows = [row_of[item_id] for item_id in item_ids]
    return _as_array(path, table["embedding"], rows, item_ids), rows


def _read_table(path: str) -> pa.Table:
    with table_files.open_parquet(path) as file:
        table_files.check_columns(path, file.schema_arrow.names, _COLUMNS)
        return file.read(columns=_COLUMNS)


def _ids(path: str, column: pa.ChunkedArray) -> list[str]:
    ids = table_files.column_as_text(path, "item_id", column)
    if ids.null_count:
        raise UserError(
            f"{path}: no item_id in {ids.null_count} of {len(ids)} rows: every row needs one"
        )
    return ids.to_pylist()


def _as_array(
    path: str, column: pa.ChunkedArray, rows: list[int], item_ids: list[str]
) -> np.ndarray:
    """Returns the column's lists at `rows`, those of `item_ids`, as an array [I, E]."""
    kind = column.type
    if not table_files.is_list(kind) or not _is_number(kind.value_type):
        raise UserError(f"{path}: embedding must be a list of numbers, not {kind}")
    if not pa.types.is_fixed_size_list(
        kind
    ):  # 64-bit offsets: the rows taken may hold more than 2^31 values
        column = column.cast(pa.large_list(kind.value_type))
    column = column.take(pa.array(rows))
    if column.null_count:
        without = [item_ids[n] for n in np.flatnonzero(column.is_null())]
        raise UserError(
            f"{path}: no embedding in the rows of {len(without)} items ({_first(without)}): add "
            "them"
        )
    widths = pc.list_value_length(column).to_numpy()  # [I]
    if (widths != widths[0]).any():
        other = int((widths != widths[0]).argmax())
        raise UserError(
            f"{path}: embeddings must be of one width, but item {item_ids[0]} has {widths[0]} "
            f"numbers and item {item_ids[other]} has {widths[other]}"
        )
    return pc.list_flatten(column).to_numpy().reshape(len(rows), widths[0])


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
