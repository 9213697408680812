"""Arrow columns as flat memory: what hashing and comparing whole columns needs, without an object for each value.

Ids and digests are 16 bytes each. They are stored so, handled as two halves (uint64 [n], high and low), and shown to
people as 32 hexadecimal digits.
"""

from __future__ import annotations

from binascii import unhexlify
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

WIDTH = 16
"""Bytes of an id or a digest of a row."""

# Two digits of each byte as one number: a whole column is written by one gather.
_DIGITS = np.frombuffer(bytes(range(256)).hex().encode(), dtype=np.uint16)
"""The two hexadecimal digits of each byte."""


def text_lengths(values: pa.LargeBinaryArray) -> np.ndarray:
    """Return int64 [values]: bytes of each, -1 for a null."""
    offsets = values.buffers()[1]
    if not len(values) or offsets is None:
        lengths = np.zeros(len(values), dtype="<i8")
    else:
        lengths = np.diff(np.frombuffer(offsets, dtype="<i8")[values.offset : values.offset + len(values) + 1])
    if values.null_count:
        lengths[is_null(values)] = -1
    return lengths


def is_null(values: pa.Array[Any]) -> np.ndarray:
    """Return bool [values], taken from the bits as they are, because Arrow's own way imports pandas where there is
    one."""
    bits = values.buffers()[0]
    if bits is None or not values.null_count:
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(_bits(bits, values.offset, len(values)) == 0)


def numbers(values: pa.Array[Any]) -> np.ndarray:
    """Return numbers without nulls, little-endian, as they lie in memory; booleans, which lie there as bits, one byte
    each.

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
    """Return the bytes of all values one after another; values: without nulls."""
    _, offsets, data = values.buffers()
    if not len(values) or offsets is None or data is None:
        return memoryview(b"")
    bounds = np.frombuffer(memoryview(offsets), dtype="<i8")
    return memoryview(data)[int(bounds[values.offset]) : int(bounds[values.offset + len(values)])]


def binary_of(high: np.ndarray, low: np.ndarray, *, there: np.ndarray | None = None) -> pa.FixedSizeBinaryArray:
    """Store ids or digests: two uint64 [n] to 16 bytes each; there: bool [n], null where it is false."""
    import pyarrow as pa

    # Big-endian, so that bytes sort as the numbers do, and as the digits that people read.
    data = pa.py_buffer(np.stack([high, low], axis=1).astype(">u8"))
    found = pa.Array.from_buffers(pa.binary(WIDTH), len(high), [_bitmap(there), data])
    return cast("pa.FixedSizeBinaryArray", found)


def halves_of(values: pa.FixedSizeBinaryArray) -> np.ndarray:
    """Return uint64 [values, 2], high and low, of ids or digests as they are stored, without nulls."""
    _, data = values.buffers()
    found = np.frombuffer(data, dtype=">u8")[2 * values.offset : 2 * (values.offset + len(values))]
    return found.astype(np.uint64).reshape(-1, 2)


def digits_of(values: pa.FixedSizeBinaryArray) -> pa.LargeStringArray:
    """Write ids or digests as people read them; nulls stay."""
    import pyarrow as pa

    _, data = values.buffers()
    held = np.frombuffer(data, dtype=np.uint8)[WIDTH * values.offset : WIDTH * (values.offset + len(values))]
    bounds = pa.py_buffer(np.arange(len(values) + 1, dtype=np.int64) * 2 * WIDTH)
    there = _bitmap(~is_null(values)) if values.null_count else None
    return pa.LargeStringArray.from_buffers(len(values), bounds, pa.py_buffer(_DIGITS[held]), there)


def binary_of_digits(values: pa.LargeBinaryArray) -> pa.FixedSizeBinaryArray | None:
    """Convert texts of 32 lower-case hexadecimal digits to 16 bytes each; nulls stay. None where a text is not that."""
    halves = hex_halves(cast("pa.LargeBinaryArray", values.drop_null()) if values.null_count else values)
    if halves is None:
        return None
    if not values.null_count:
        return binary_of(halves[:, 0], halves[:, 1])
    there = ~is_null(values)
    whole = np.zeros((len(values), 2), dtype=np.uint64)
    whole[there] = halves
    return binary_of(whole[:, 0], whole[:, 1], there=there)


def hex_halves(values: pa.LargeBinaryArray) -> np.ndarray | None:
    """Return uint64 [values, 2], high and low, of texts of 32 lower-case hexadecimal digits; None where one is not
    that."""
    if (text_lengths(values) != 32).any():
        return None
    text = bytes(text_bytes(values))
    # unhexlify takes capitals too, which no digest of ours has.
    if text.translate(None, b"0123456789abcdef"):
        return None
    return np.frombuffer(unhexlify(text), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def _bits(bits: pa.Buffer, offset: int, count: int) -> np.ndarray:
    """Unpack the bits of a bitmap from an offset, 0 or 1 each: uint8 [count]."""
    byte, bit = divmod(offset, 8)
    found = np.unpackbits(np.frombuffer(bits, dtype=np.uint8)[byte:], count=bit + count, bitorder="little")
    return found[bit:]


def _bitmap(there: np.ndarray | None) -> pa.Buffer | None:
    """Return bool [n] as Arrow tells which values are there."""
    import pyarrow as pa

    return None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
