"""Identity and randomness by content.

An example's id comes from what it holds, and every draw is our own splitmix64 over id, seed and purpose: no library's
hash or generator decides a byte, because those change between versions, and no draw depends on file order, part size,
workers or arrival.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

# The published constants: with others every seed would draw other rows.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(values: np.ndarray) -> np.ndarray:
    """Mix each value by the finalizer of Steele, Lea and Flood's SplitMix64: uint64 [n] to uint64 [n], a bijection."""
    mixed = np.asarray(values + _GOLDEN, dtype=np.uint64)
    shifted = np.empty_like(mixed)
    # In place: arrays that are made anew at every step leave the cache.
    for bits, factor in ((30, _MIX_1), (27, _MIX_2)):
        np.right_shift(mixed, np.uint64(bits), out=shifted)
        np.bitwise_xor(mixed, shifted, out=mixed)
        np.multiply(mixed, factor, out=mixed)
    np.right_shift(mixed, np.uint64(31), out=shifted)
    return np.asarray(np.bitwise_xor(mixed, shifted, out=mixed))


def draw_keys(*, id_hi: np.ndarray, id_lo: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Draw one uniform uint64 for each example, for one purpose of one seed.

    Args:
        id_hi, id_lo: uint64 [examples].
        purpose: what is drawn ("mixture flan-5m", "rows"); other purposes are independent.
    """
    # \x1f parts seed from purpose, so that no two pairs give one text.
    salt = np.frombuffer(hashlib.blake2b(f"{seed}\x1f{purpose}".encode(), digest_size=16).digest(), dtype="<u8")
    return splitmix64(splitmix64(id_hi ^ salt[0]) ^ id_lo ^ salt[1])


def draw_below(*, keys: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Draw a uniform integer in [0, bound) from each key: uint64 [n], int64 [n] to int64 [n] (bounds below 2^32).

    Multiplies the key's high half by the bound; the bias is below bound / 2^32.
    """
    return np.asarray(((keys >> np.uint64(32)) * bounds.astype(np.uint64)) >> np.uint64(32), dtype=np.int64)


def digests(values: Iterable[bytes | memoryview], *, person: bytes = b"") -> tuple[np.ndarray, np.ndarray]:
    """Digest each value by BLAKE2b-128: two uint64 arrays (high, low)."""
    # No function of ours is called for a value, and a copied state is cheaper than one made anew: each would cost as
    # much as the hash of a short text.
    fresh, found = hashlib.blake2b(digest_size=16, person=person), []
    for value in values:
        state = fresh.copy()
        state.update(value)
        found.append(state.digest())
    # Big-endian on every machine: the bytes of an id read as its hexadecimal text.
    halves = np.frombuffer(b"".join(found), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])


def binary_digests(
    values: pa.LargeBinaryArray | pa.LargeStringArray, *, person: bytes = b""
) -> tuple[np.ndarray, np.ndarray]:
    """Digest each value by BLAKE2b-128, [n] to two uint64 [n]; nulls hash as what their offsets span."""
    _, offsets, data = values.buffers()
    if not len(values) or offsets is None:
        return digests([], person=person)
    bounds = np.frombuffer(offsets, dtype=np.int64)[values.offset : values.offset + len(values) + 1].tolist()
    spans = map(memoryview(data if data is not None else b"").__getitem__, map(slice, bounds[:-1], bounds[1:]))
    return digests(spans, person=person)


def text_digests(texts: pl.Series, *, person: bytes = b"") -> tuple[np.ndarray, np.ndarray]:
    """Digest the UTF-8 of each text by BLAKE2b-128 (nulls hash as empty): String [n] to two uint64 [n]."""
    import pyarrow as pa

    column = texts.fill_null("").rechunk().to_arrow()
    return binary_digests(column.cast(pa.large_binary()), person=person)


def canonical(*columns: pl.Expr) -> pl.Expr:
    """Join columns into one text that can be taken apart again: length-prefixed, null apart from empty."""
    import polars as pl

    return pl.concat_str([part for column in columns for part in (_measured(column),)])


def _measured(column: pl.Expr) -> pl.Expr:
    import polars as pl

    text = pl.concat_str([column.str.len_bytes().cast(pl.String), pl.lit(":"), column])
    return pl.when(column.is_null()).then(pl.lit("-")).otherwise(text)


def id_text(id_hi: int, id_lo: int) -> str:
    """Write an example's id as 32 hexadecimal digits."""
    return f"{id_hi:016x}{id_lo:016x}"
