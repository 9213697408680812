"""Arrow text as flat bytes: what hashing and comparing whole columns needs, without an object for each value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_HEX = 255


def text_lengths(values: pa.LargeBinaryArray) -> np.ndarray:
    """int64 [values]: bytes of each, -1 for a null."""
    import pyarrow.compute as pc

    return np.asarray(pc.binary_length(values).fill_null(-1).to_numpy(), dtype="<i8")


def text_bytes(values: pa.LargeBinaryArray) -> memoryview:
    """The bytes of all values one after another; values: without nulls."""
    _, offsets, data = values.buffers()
    if not len(values) or offsets is None or data is None:
        return memoryview(b"")
    bounds = np.frombuffer(memoryview(offsets), dtype="<i8")
    return memoryview(data)[int(bounds[values.offset]) : int(bounds[values.offset + len(values)])]


def hex_halves(values: pa.LargeBinaryArray) -> np.ndarray | None:
    """uint64 [values, 2], high and low, of texts of 32 lower-case hexadecimal digits; None where one is not that."""
    if (text_lengths(values) != 32).any():
        return None
    nibbles = _nibbles()[np.frombuffer(text_bytes(values), dtype=np.uint8)]
    if (nibbles == _NOT_HEX).any():
        return None
    packed = nibbles[0::2] << 4 | nibbles[1::2]
    return np.asarray(packed.view(">u8").astype(np.uint64).reshape(-1, 2))


def _nibbles() -> np.ndarray:
    table = np.full(256, _NOT_HEX, dtype=np.uint8)
    table[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)
    return table
