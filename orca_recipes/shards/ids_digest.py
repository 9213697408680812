"""The digest of an example's token ids: equal where two examples are the same tokens, context and all.

It is BLAKE2b-128 of the ids as they lie in `.bin` (uint16 or int32, little-endian), so that anyone can take it anew
from the bytes of a build.
"""

from __future__ import annotations

import hashlib

import numpy as np


def ids_digests(tokens: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Digest consecutive examples.

    Args:
        tokens: uint16 or int32 [tokens], as shards store them. bounds: int64 [examples + 1] into tokens.
    Returns: uint64 [examples, 2], high and low half.
    """
    data = np.ascontiguousarray(tokens).data.cast("B") if len(tokens) else memoryview(b"")
    places = (bounds * tokens.dtype.itemsize).tolist()
    # A copied state is cheaper than one made anew, which would cost as much as the hash of a short example.
    fresh, found = hashlib.blake2b(digest_size=16), []
    for span in map(slice, places[:-1], places[1:]):
        state = fresh.copy()
        state.update(data[span])
        found.append(state.digest())
    return np.frombuffer(b"".join(found), dtype=">u8").astype(np.uint64).reshape(-1, 2)
