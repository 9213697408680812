"""Many spans at once, for gathering and scattering whole columns."""

import numpy as np

from orca_recipes.store.arrow_files import indices, string_buffers


def ragged(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Expand spans to the positions start, start + 1, ..., one span after the other: int64 [sum of counts]."""
    ends = np.cumsum(counts)
    positions = np.repeat(starts - (ends - counts), counts)
    positions += np.arange(len(positions))
    return positions


def gathered_rows(values: np.ndarray, starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Gather rows of values, one row after the other, each copied whole: [sum of their lengths].

    Args:
        values: one row after the other. starts: int64 [rows there are + 1] into them. rows: integers [rows wanted].
    """
    import pyarrow as pa

    size = values.itemsize
    buffers = [None, pa.py_buffer(starts * size), pa.py_buffer(values)]
    # Arrow copies each row as one piece of memory; numpy would compute and gather a position for every token.
    column = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(starts) - 1, buffers)
    offsets, data = string_buffers(column.take(indices(rows)))
    return np.frombuffer(data if data is not None else b"", dtype=values.dtype, count=int(offsets[-1]) // size)
