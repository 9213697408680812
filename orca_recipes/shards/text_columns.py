"""Arrow columns as flat memory: what hashing and comparing whole columns needs, without an object for each value."""

from __future__ import annotations

from binascii import unhexlify
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def text_lengths(values: pa.LargeBinaryArray) -> np.ndarray:
    """int64 [values]: bytes of each, -1 for a null."""
    offsets = values.buffers()[1]
    if not len(values) or offsets is None:
        lengths = np.zeros(len(values), dtype="<i8")
    else:
        lengths = np.diff(np.frombuffer(offsets, dtype="<i8")[values.offset : values.offset + len(values) + 1])
    if values.null_count:
        lengths[is_null(values)] = -1
    return lengths


def is_null(values: pa.Array[Any]) -> np.ndarray:
    """bool [values]: taken from the bits as they are, because Arrow's own way imports pandas where there is one."""
    bits = values.buffers()[0]
    if bits is None or not values.null_count:
        return np.zeros(len(values), dtype=np.bool_)
    byte, bit = divmod(values.offset, 8)
    is_there = np.unpackbits(np.frombuffer(bits, dtype=np.uint8)[byte:], count=bit + len(values), bitorder="little")
    return np.asarray(is_there[bit:] == 0)


def numbers(values: pa.Array[Any]) -> np.ndarray:
    """Numbers without nulls, little-endian, as they lie in memory; booleans, which lie there as bits, one byte each."""
    import pyarrow as pa

    bits = values.buffers()[1]
    if pa.types.is_boolean(values.type) or bits is None:
        found = values.to_numpy(zero_copy_only=False)
    else:
        found = np.frombuffer(bits, dtype=values.type.to_pandas_dtype())[values.offset : values.offset + len(values)]
    return np.asarray(found, dtype=found.dtype.newbyteorder("<"))


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
    text = bytes(text_bytes(values))
    if text.translate(None, b"0123456789abcdef"):
        return None
    return np.frombuffer(unhexlify(text), dtype=">u8").astype(np.uint64).reshape(-1, 2)
