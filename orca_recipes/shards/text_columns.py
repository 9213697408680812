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
    return np.asarray(_bits(bits, values.offset, len(values)) == 0)


def numbers(values: pa.Array[Any]) -> np.ndarray:
    """Numbers without nulls, little-endian, as they lie in memory; booleans, which lie there as bits, one byte each.

    Arrow's own names for numpy's types are not asked: before pyarrow 26 they cannot be told without pandas.
    """
    import pyarrow as pa

    bits = values.buffers()[1]
    if pa.types.is_boolean(values.type):
        return np.empty(0, dtype=np.bool_) if bits is None else _bits(bits, values.offset, len(values)).astype(np.bool_)
    sort = "f" if pa.types.is_floating(values.type) else "i" if pa.types.is_signed_integer(values.type) else "u"
    dtype = np.dtype(f"<{sort}{values.type.bit_width // 8}")
    if bits is None:
        return np.empty(0, dtype=dtype)
    return np.frombuffer(bits, dtype=dtype)[values.offset : values.offset + len(values)]


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


def _bits(bits: pa.Buffer, offset: int, count: int) -> np.ndarray:
    """uint8 [count]: bits of a bitmap from an offset, 0 or 1 each."""
    byte, bit = divmod(offset, 8)
    found = np.unpackbits(np.frombuffer(bits, dtype=np.uint8)[byte:], count=bit + count, bitorder="little")
    return found[bit:]
