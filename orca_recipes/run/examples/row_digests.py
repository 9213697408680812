"""One digest for each row of a collection, as the stages `contexts` and `questions` keep them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl

Digests = tuple[np.ndarray, np.ndarray]
"""uint64 [rows] twice, high and low half."""
# Digests are held a slice at a time: this bounds the memory for any number of rows.
_HELD_AT_ONCE = 1 << 21
_NONE = np.empty(0, dtype=np.uint64)
# The lowest bit of a digest is given up for the side: rows that differ in it alone are told apart by the whole digests.
_SIDE = np.uint64(1)
# Narrowing looks at every row once more: it pays where hardly any is left.
_FEW = 16
"""Where fewer than one in so many rows may be among the others, those rows are sought out first."""


def read_digests(folder: StageFolder) -> Digests:
    """Read the digests of a finished stage, one a row, aligned with the ids of its collection."""
    return joined([read_frame(part.file(".arrow")) for part in folder.parts()])


def joined(frames: Sequence[pl.DataFrame]) -> Digests:
    """Join digests of parts."""
    hi, lo = (np.concatenate([_NONE, *(frame[name].to_numpy() for frame in frames)]) for name in ("hi", "lo"))
    return hi, lo


def stand_in(mine: Digests, others: Sequence[Digests]) -> np.ndarray:
    """Return True for each row whose digest occurs in any of `others`: bool [rows].

    Works in slices by the digests' first bits to bound memory. Looks whole digests up only where high halves nearly
    agree: sorting numbers costs a third of sorting a table.
    """
    found = np.zeros(len(mine[0]), dtype=np.bool_)
    total = len(found) + sum(len(other[0]) for other in others)
    bits = (total // _HELD_AT_ONCE).bit_length()
    for number in range(1 << bits):
        rows = _slice(mine[0], number, bits)
        held = [(other, _slice(other[0], number, bits)) for other in others]
        shared = _shared(mine[0][rows], np.concatenate([_NONE, *(other[0][chosen] for other, chosen in held)]))
        if not len(shared):
            continue
        if len(shared) * _FEW < len(rows):
            rows = rows[_is_among(mine[0][rows], shared)]
            held = [(other, chosen[_is_among(other[0][chosen], shared)]) for other, chosen in held]
        hi, lo = (np.concatenate([other[at][chosen] for other, chosen in held]) for at in (0, 1))
        found[rows[_members((mine[0][rows], mine[1][rows]), (hi, lo))]] = True
    return found


def _slice(values: np.ndarray, number: int, bits: int) -> np.ndarray:
    if not bits:
        return np.arange(len(values))
    return np.flatnonzero(values >> np.uint64(64 - bits) == number)


def _shared(mine: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Find the values, without their last bit, that occur on both sides, rising. The last bit marks the side and all
    are sorted together: neighbours that differ in that bit alone are such values."""
    joined = np.concatenate([mine, others]) & ~_SIDE
    joined[: len(mine)] |= _SIDE
    joined.sort()
    return np.asarray(joined[:-1][(joined[1:] ^ joined[:-1]) == _SIDE])


def _is_among(values: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Return bool [values]: which are among the shared ones, but for their last bit."""
    even = values & ~_SIDE
    return np.asarray(shared[np.minimum(np.searchsorted(shared, even), len(shared) - 1)] == even)


def _members(mine: Digests, others: Digests) -> np.ndarray:
    """Return int64: the places of those that stand among the others."""
    import polars as pl

    left = pl.DataFrame({"hi": mine[0], "lo": mine[1], "row": np.arange(len(mine[0]))})
    right = pl.DataFrame({"hi": others[0], "lo": others[1]})
    return left.join(right, on=["hi", "lo"], how="semi")["row"].to_numpy()
