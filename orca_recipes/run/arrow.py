"""Frames on disk: Arrow IPC files, uncompressed, so that they are read by mapping memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame as one Arrow IPC file."""
    import pyarrow as pa

    table = frame.rechunk().to_arrow()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_frame(path: Path, *, columns: list[str] | None = None) -> pl.DataFrame:
    """A frame over the mapped file; reading columns costs what is looked at."""
    import polars as pl
    import pyarrow as pa

    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    frame = pl.from_arrow(table.select(columns) if columns else table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def indices(places: np.ndarray) -> pa.Int64Array:
    """Positions [n] as `take` wants them. Made of the memory as it is: `pa.array` imports pandas where there is one."""
    import pyarrow as pa

    flat = np.ascontiguousarray(places, dtype=np.int64)
    return cast("pa.Int64Array", pa.Array.from_buffers(pa.int64(), len(flat), [None, pa.py_buffer(flat)]))


def string_buffers(texts: pa.LargeStringArray | pa.LargeBinaryArray) -> tuple[np.ndarray, pa.Buffer]:
    """Offsets int64 [texts + 1] of an array of texts, and the bytes that they point into."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64) if offsets is not None else np.zeros(1, dtype=np.int64)
    return bounds[texts.offset : texts.offset + len(texts) + 1], data
