"""The digest of an example's token ids: equal where two examples are the same tokens, context and all.

It is XXH3-128 of the ids as they lie in `.bin` (uint16 or int32, little-endian), so that anyone can take it anew from
the bytes of a build. It tells of faults; against forgers, who would take it anew, stand anchors alone. Which digest a
table holds is told by its column's name: until 0.1.0 was released it was BLAKE2b-128, at three times the cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import xxhash

XXH3 = "ids_xxh3"
"""The column of digests by XXH3-128, most significant byte first."""
BLAKE2B = "ids_digest"
"""The column of digests by BLAKE2b-128, in its place: builds of early checkouts have it, it is never written."""

# Slices and digests take a hundred bytes an example, and examples may be short.
_EXAMPLES_A_PASS = 1 << 16


def ids_digests(tokens: np.ndarray, bounds: np.ndarray, *, column: str = XXH3) -> np.ndarray:
    """Digest consecutive examples.

    Args:
        tokens: uint16 or int32 [tokens], as shards store them. bounds: int64 [examples + 1] into tokens.
        column: XXH3 or BLAKE2B, the column whose digests these are.
    Returns: uint64 [examples, 2], high and low half.
    """
    data = np.ascontiguousarray(tokens).data.cast("B") if len(tokens) else memoryview(b"")
    found = np.empty((len(bounds) - 1, 2), dtype=np.uint64)
    for first in range(0, len(found), _EXAMPLES_A_PASS):
        places = (bounds[first : first + _EXAMPLES_A_PASS + 1] * tokens.dtype.itemsize).tolist()
        digests = b"".join(_digests(data, map(slice, places, places[1:]), column))
        found[first : first + _EXAMPLES_A_PASS] = np.frombuffer(digests, dtype=">u8").reshape(-1, 2)
    return found


def _digests(data: memoryview, spans: Iterator[slice], column: str) -> Iterator[bytes]:
    """Digest parts of some bytes. No line of Python is run for a part by XXH3, which would cost as much as its hash."""
    if column == XXH3:
        return map(xxhash.xxh3_128_digest, map(data.__getitem__, spans))
    return (hashlib.blake2b(data[span], digest_size=16).digest() for span in spans)
