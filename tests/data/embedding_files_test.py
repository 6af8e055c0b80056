"""Embeddings that the user computed."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genrec_jax.data import embedding_files
from genrec_jax.errors import UserError

ITEM_IDS = ["a", "b", "c"]
ROWS = [[1, 2], [3, 4], [5, 6]]


def save(folder, array):
    path = folder / "mine.npy"
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_an_array_of_any_width_and_type(tmp_path, dtype):
    array = np.arange(21).reshape(3, 7).astype(dtype)
    embeddings = embedding_files.read(save(tmp_path, array), ITEM_IDS)
    np.testing.assert_array_equal(embeddings, array)
    assert embeddings.dtype == np.float32


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((2, 2)), "has 2 rows, the catalogue has 3 items"),
        (np.zeros(3), r"expected one array \[items, width\]"),
        (np.zeros((3, 0)), "the embeddings have no values"),
        ([[1, 2], [3, np.nan], [5, 6]], r"finite .* but row 1 \(from 0\), of item b, is not"),
        ([[1, 2], [3, 4], [-np.inf, 6]], r"finite .* but row 2 \(from 0\), of item c, is not"),
        (np.full((3, 2), 1e300), r"finite number in float32, but row 0 .* of item a"),
        (np.full((3, 2), "x"), "every value must be a number, not <U1"),
        (np.full((3, 2), 1j), "every value must be a number, not complex128"),
        (np.full((3, 2), None), "neither an .npy array of numbers"),  # pickled, so never loaded
    ],
)
def test_an_array_that_cannot_be_used(tmp_path, array, message):
    with pytest.raises(UserError, match=f"mine.npy.*{message}"):
        embedding_files.read(save(tmp_path, array), ITEM_IDS)


def test_a_file_that_is_no_array(tmp_path):
    path = tmp_path / "mine.npy"
    path.write_text("1, 2, 3")
    with pytest.raises(
        UserError, match=r"mine\.npy is neither an \.npy array .* nor a \.parquet table"
    ):
        embedding_files.read(str(path), ITEM_IDS)
    whole = open(save(tmp_path, np.zeros((3, 2))), "rb").read()
    path.write_bytes(whole[:10] + whole[10:].replace(b"}", b" "))  # a header that never ends
    with pytest.raises(
        UserError, match=r"mine\.npy is neither an \.npy array .* nor a \.parquet table"
    ):
        embedding_files.read(str(path), ITEM_IDS)


def test_a_checksum_is_of_the_contents(tmp_path):
    first = embedding_files.checksum(save(tmp_path, np.zeros((3, 2))))
    assert embedding_files.checksum(save(tmp_path, np.ones((3, 2)))) != first
    assert embedding_files.checksum(save(tmp_path, np.zeros((3, 2)))) == first
    for path in ("", "nowhere.npy", str(tmp_path)):
        with pytest.raises(UserError, match=f"no file '{path}'.*--config.embedder.path"):
            embedding_files.checksum(path)


def table(folder, item_ids, rows, kind=None, **options):
    """Writes a Parquet table and returns its path."""
    kind = kind or pa.list_(pa.float64())
    columns = {"item_id": item_ids, "embedding": pa.array(rows, kind)}
    path = folder / "mine.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64(), 2),
        pa.large_list(pa.float32()),
        pa.list_(pa.int16()),
    ],
    ids=str,
)
@pytest.mark.parametrize("row_group_size", [1, 10])
def test_a_table_in_any_order_and_type(tmp_path, kind, row_group_size):
    path = table(tmp_path, ITEM_IDS, ROWS, kind, row_group_size=row_group_size)
    embeddings = embedding_files.read(path, ["c", "a", "b"])
    np.testing.assert_array_equal(embeddings, [[5, 6], [1, 2], [3, 4]])
    assert embeddings.dtype == np.float32


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, 10, 2]),
        pa.array([3, 10, 2], pa.uint8()),
        pa.array([3.0, 10.0, 2.0]),  # what pandas makes of whole numbers if one was missing
        pa.array(["3", "10", "2"], pa.large_string()),
        pa.array([b"3", b"10", b"2"]),
        pa.array(["3", "10", "2"]).dictionary_encode(),
    ],
    ids=lambda ids: str(ids.type),
)
def test_item_ids_are_compared_as_text(tmp_path, ids):
    embeddings = embedding_files.read(table(tmp_path, ids, ROWS), ["2", "3", "10"])
    np.testing.assert_array_equal(embeddings, [[5, 6], [1, 2], [3, 4]])


def test_whole_ids_that_are_stored_as_floats_are_written_in_full(tmp_path):
    path = table(tmp_path, pa.array([12345678.0, 2.5, 0.0]), ROWS)
    embeddings = embedding_files.read(path, ["0", "12345678", "2.5"])
    np.testing.assert_array_equal(embeddings, [[5, 6], [1, 2], [3, 4]])


def test_other_columns_and_items_are_ignored(tmp_path, caplog):
    columns = {"embedding": [[1.0], [np.nan], None], "title": ["A", "B", "C"], "item_id": ITEM_IDS}
    path = str(tmp_path / "mine.parquet")
    pq.write_table(pa.table(columns), path)
    with caplog.at_level(logging.INFO):
        np.testing.assert_array_equal(embedding_files.read(path, ["a"]), [[1]])
    assert caplog.messages == [f"{path}: ignored 2 rows of items that the catalogue lacks"]


@pytest.mark.parametrize(
    "item_ids, rows, message",
    [
        (
            ["a", "x", "y"],
            ROWS,
            r"no row for 2 of the catalogue's 3 items \(b, c\): add.* the file's ids are a, x, y",
        ),
        ([], [], r"no row for 3 of the .* 3 items \(a, b, c\): add them; the file's ids are none"),
        ([*"abcca"], ROWS + ROWS[:2], r"more than one row for 2 of its items \(a, c\)"),
        ([*"abcxx"], ROWS + ROWS[:2], r"more than one row for 1 of its items \(x\)"),
        (["a", None, "c"], ROWS, "no item_id in 1 of 3 rows: every row needs one"),
        ([1.0, np.nan, np.nan], ROWS, "no item_id in 2 of 3 rows"),
        ([["a"], ["b"], ["c"]], ROWS, "item_id must be text or numbers: .*cast"),
        ([b"a", b"\xff", b"c"], ROWS, "item_id must be text or numbers: .*UTF8"),
        (ITEM_IDS, [[1, 2], [3], [5, 6]], "item a has 2 numbers and item b has 1"),
        (ITEM_IDS, [[1, 2], [], [5, 6]], "item a has 2 numbers and item b has 0"),
        (ITEM_IDS, [[], [], []], "the embeddings have no values"),
        (ITEM_IDS, [[1, 2], None, None], r"no embedding in the rows of 2 items \(b, c\)"),
        (ITEM_IDS, [[1, 2], [3, 4], [5, np.inf]], r"row 2 \(from 0\), of item c, is not"),
        (ITEM_IDS, [[1, 2], [np.nan, 4], [5, 6]], r"row 1 \(from 0\), of item b, is not"),
        (ITEM_IDS, [[1, 2], [3, None], [5, 6]], r"row 1 \(from 0\), of item b, is not"),
        (ITEM_IDS, [[1, 2], [3, 4], [5, 1e39]], r"finite number in float32, but row 2"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, item_ids, rows, message):
    with pytest.raises(UserError, match=f"mine.parquet.*{message}"):
        embedding_files.read(table(tmp_path, item_ids, rows), ITEM_IDS)


def test_the_row_that_is_named_is_the_file_s(tmp_path):
    path = table(tmp_path, ["c", "x", "b", "a"], [[1], [2], [np.nan], [3]])
    with pytest.raises(UserError, match=r"row 2 \(from 0\), of item b"):
        embedding_files.read(path, ITEM_IDS)


def test_of_many_missing_items_the_first_are_named(tmp_path):
    item_ids = [f"i{n}" for n in range(1000)]
    with pytest.raises(UserError, match=r"for 1000 .* 1000 items \(i0, i1, i2, \.\.\.\): add"):
        embedding_files.read(table(tmp_path, ITEM_IDS, ROWS), item_ids)


@pytest.mark.parametrize(
    "kind, rows",
    [
        (pa.float32(), [1, 2, 3]),
        (pa.list_(pa.string()), [["1"]] * 3),
        (pa.list_(pa.bool_()), [[True]] * 3),
        (pa.list_(pa.list_(pa.int8())), [[[1]]] * 3),
    ],
    ids=str,
)
def test_a_column_of_something_else(tmp_path, kind, rows):
    with pytest.raises(UserError, match=r"mine\.parquet: embedding must be a list of numbers, not"):
        embedding_files.read(table(tmp_path, ITEM_IDS, rows, kind), ITEM_IDS)


@pytest.mark.parametrize("names", [["id", "vector"], ["item_id", "vector"], ["id", "embedding"]])
def test_a_table_without_the_columns(tmp_path, names):
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table([ITEM_IDS, ROWS], names), path)
    with pytest.raises(UserError, match=f"its columns are {names[0]}, {names[1]}$"):
        embedding_files.read(str(path), ITEM_IDS)


def test_a_damaged_table(tmp_path):
    path = table(tmp_path, ITEM_IDS, ROWS, compression="none", write_page_checksum=True)
    whole = open(path, "rb").read()
    value = whole.index(np.float64(3).tobytes())
    flipped = whole[:value] + b"?" + whole[value + 1 :]  # another number, which only a sum tells
    not_a_name = whole.replace(b"embedding", b"embeddin\xff")
    for damaged in (b"", b"item_id,embedding", whole[:-20], whole[:40], flipped, not_a_name):
        open(path, "wb").write(damaged)
        with pytest.raises(UserError, match=r"mine\.parquet: not a Parquet file, or a damaged one"):
            embedding_files.read(path, ITEM_IDS)


def test_item_ids_that_are_damaged(tmp_path):
    path = table(tmp_path, ["item a", "b", "c"], ROWS, compression="none")
    whole = open(path, "rb").read()
    open(path, "wb").write(whole.replace(b"item a", b"item \xff"))
    with pytest.raises(UserError, match=r"mine\.parquet: item_id must be text or numbers: .*UTF8"):
        embedding_files.read(path, ITEM_IDS)
