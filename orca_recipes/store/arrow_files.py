"""Frames on disk: Arrow IPC files, uncompressed, so that they are read by mapping memory."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from orca_recipes.shards.text_columns import binary_of, digits_of
from orca_recipes.store.shared_stage import file_at_hand

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


IDS = "ids"
"""The part of stage `read` that holds the ids of all its rows."""


def keep_pandas_out() -> None:
    """Let Arrow look for pandas now, and find none; who imports pandas still can.

    Arrow imports pandas, where there is one, as soon as it is handed a list, a number or an array of numpy's, to ask
    whether that is a column of pandas. Nothing here ever is one, and the import costs 0.2 to 0.3 s of CPU a process.
    """
    import pyarrow as pa

    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame as one Arrow IPC file."""
    write_table(path, frame.rechunk().to_arrow())


def write_table(path: Path, table: pa.Table) -> None:
    """Write an Arrow table as `write_frame` does; from a frame texts would be copied."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_frame(path: Path, *, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a frame over the mapped file; columns cost nothing until their values are used."""
    import polars as pl

    table = read_table(path)
    # To join the pieces of a large file would copy it.
    frame = pl.from_arrow(table.select(columns) if columns else table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


def read_table(path: Path) -> pa.Table:
    """Read a mapped file as an Arrow table, fetched if it is missing here; unlike `read_frame` it makes no view of each
    text."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(file_at_hand(path)))).read_all()


def one_piece(column: pa.ChunkedArray) -> pa.Array:
    """Combine a column's chunks into one array; a single chunk is not copied."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def indices(places: np.ndarray) -> pa.Int64Array:
    """Return positions [n] as `take` wants them."""
    return cast("pa.Int64Array", column_of(places.astype(np.int64, copy=False)))


def column_of(values: np.ndarray) -> pa.Array[Any]:
    """Return numbers [n] as a column, made of the memory as it is: `pa.array` imports pandas where there is one."""
    import pyarrow as pa

    flat = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])


def different(values: pa.Array[Any]) -> np.ndarray:
    """Number values, int32 [n]: the same for the same value, counted from 0 as they are first met; values: without
    nulls."""
    codes = values.dictionary_encode().indices
    _, data = codes.buffers()
    return np.frombuffer(data, dtype=np.int32, count=len(codes)) if len(codes) else np.empty(0, dtype=np.int32)


def string_buffers(texts: pa.LargeStringArray | pa.LargeBinaryArray) -> tuple[np.ndarray, pa.Buffer]:
    """Return offsets int64 [texts + 1] of an array of texts, and the bytes that they point into."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64) if offsets is not None else np.zeros(1, dtype=np.int64)
    return bounds[texts.offset : texts.offset + len(texts) + 1], data


class _NoPandas(MetaPathFinder):
    """Import finder without pandas, for the thread it was made on: another may be importing what needs pandas."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas" and get_ident() == self._thread:
            raise ModuleNotFoundError("pandas is left out", name=fullname)


def hexadecimal(high: pl.Series, low: pl.Series) -> pl.Series:
    """Write ids or digests as people read them: two UInt64 [n] to String [n] of 32 hexadecimal digits."""
    import polars as pl

    return pl.Series(digits_of(binary_of(high.to_numpy(), low.to_numpy())))
