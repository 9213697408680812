"""Rows of many parts meet by their keys, slice by slice of the keys' space, so that a bounded number is held at a time.

Rows are numbered through: a dataset's own first, then those it is compared with. In a crowd that shares one key each
row meets the first of it and its neighbours in keyed order: that bounds the work where one form made millions of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca_recipes.contract.comparison import KNOWN_BITS

# Keys of one slice, about: 64 MiB of them, and as much of their rows.
_HELD_AT_ONCE = 1 << 23
_PAIRS_AT_ONCE = 1 << 16
_FIRST, _FIRST_OTHERS, _NEAREST = 64, 512, 16
"""Of a crowd: how many of its first rows, how many of the first that it is compared with, how many neighbours."""
_LAST = np.uint64((1 << KNOWN_BITS) - 1)


@dataclass(frozen=True)
class Met:
    """The keys of one part, rising, and the rows that have them, counted from `start`; where its signatures are."""

    keys: np.ndarray
    rows: np.ndarray
    start: int
    signatures: Path | None = None


class _Bits:
    """A set of numbers of KNOWN_BITS bits, of which a processor's nearest caches hold the most: a bit a number."""

    def __init__(self, numbers: np.ndarray) -> None:
        table = np.zeros(1 << KNOWN_BITS, dtype=np.bool_)
        table[numbers] = True
        self._bytes = np.packbits(table, bitorder="little")

    def have(self, numbers: np.ndarray) -> np.ndarray:
        """Return bool [numbers]."""
        # Signed: numpy copies other indices once more.
        held = self._bytes[(numbers >> np.uint64(3)).view(np.int64)]
        bit = numbers.astype(np.uint8)
        bit &= np.uint8(7)
        held >>= bit
        held &= np.uint8(1)
        return held.view(np.bool_)


class Known:
    """A set of keys, fast to test for membership."""

    def __init__(self, keys: np.ndarray) -> None:
        """keys: uint64, rising."""
        self._keys = keys
        self._first = _Bits(keys >> np.uint64(64 - KNOWN_BITS))
        # Keys of one head begin alike: their last bits tell them apart before any is looked for.
        self._last = _Bits(keys & _LAST)

    def may_hold(self, keys: np.ndarray) -> np.ndarray:
        """Return bool [keys]; told by a small table, which the processor keeps at hand."""
        return self._first.have(keys >> np.uint64(64 - KNOWN_BITS))

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Return bool [keys]; most are told by their first and last bits."""
        # Last bits first: who asks has often left out what `may_hold` denies.
        found = self._last.have(keys & _LAST)
        maybe = np.flatnonzero(found)
        found[maybe] = self.may_hold(keys[maybe])
        maybe = maybe[found[maybe]]
        found[maybe] = is_among(keys[maybe], self._keys)
        return found


def rising(values: np.ndarray) -> np.ndarray:
    """Sort the distinct values; numpy 2.3's `unique` hashes them, five times as slow as sorting."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def rising_order(keys: np.ndarray) -> np.ndarray:
    """Return int64 [keys]: the order that sorts keys (uint64), equal ones as they come.

    The last bits of each key make room for its place and numbers are sorted, which is twice as fast as numpy's argsort;
    the few keys that differ in those bits alone are put in order afterwards.
    """
    bits = np.uint64(len(keys).bit_length())
    packed = keys >> bits << bits
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & ((np.uint64(1) << bits) - np.uint64(1))).view(np.int64)
    packed >>= bits
    found = keys[order]
    falls = found[1:] < found[:-1]
    if falls.any():
        chosen = np.flatnonzero(is_among(packed, packed[1:][falls]))
        order[chosen] = order[chosen][np.argsort(keys[order[chosen]], kind="stable")]
    return order


def is_among(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return bool [keys]: which stand among the known ones, which rise."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys)


def widely_shared(keys: np.ndarray, rows: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return keys that are a sign of no row: uint64, rising, those of more than `most` rows; and bool [keys], which to
    keep.

    A row all of whose keys are such keeps them.
    """
    # Few keys occur so often; of these alone the rows are told apart.
    ordered = np.sort(keys)
    later = ordered[most:]
    often = rising(later[later == ordered[: len(later)]])
    chosen = np.flatnonzero(is_among(keys, often))
    keys_in, rows_in = keys[chosen], rows[chosen]
    order = np.lexsort((rows_in, keys_in))
    keys_in, rows_in = keys_in[order], rows_in[order]
    is_new = np.ones(len(keys_in), dtype=np.bool_)
    is_new[1:] = (keys_in[1:] != keys_in[:-1]) | (rows_in[1:] != rows_in[:-1])
    values, counts = np.unique(keys_in[is_new], return_counts=True)
    shared = values[counts > most]
    is_shared = is_among(keys, shared)
    has_other = np.zeros(int(rows.max(initial=-1)) + 1, dtype=np.bool_)
    has_other[rows[~is_shared]] = True
    return shared, ~is_shared | ~has_other[rows]


def meetings(
    parts: Sequence[Met], *, order: np.ndarray, own: int, unit: np.ndarray, among: bool, least_estimate: float
) -> np.ndarray:
    """Find the pairs of rows that share a key.

    Args:
        order: int64 [rows], each row's place in keyed order. own: how many rows are the dataset's; the others, numbered
            after them, stand before them in order. unit: uint64 [own], equal for rows that never meet.
        among: whether own rows meet each other. least_estimate: pairs whose signatures are less alike do not count.
    Returns: int64 [pairs, 2]: an own row, and one before it in order; sorted.
    """
    total = sum(len(part.keys) for part in parts)
    bits = (total // _HELD_AT_ONCE).bit_length()
    signatures = _Signatures(parts)
    found = [np.empty(0, dtype=np.int64)]
    for number in range(1 << bits):
        for later, earlier in _in_slice(parts, number, bits, order, own, among):
            differ = (earlier >= own) | (unit[later] != unit[np.minimum(earlier, own - 1)])
            codes = rising(later[differ] * len(order) + earlier[differ])
            for start in range(0, len(codes), _PAIRS_AT_ONCE):
                piece = codes[start : start + _PAIRS_AT_ONCE]
                found.append(piece[signatures.estimate(*np.divmod(piece, len(order))) >= least_estimate])
        found = [rising(np.concatenate(found))]
    return np.stack(np.divmod(found[0], len(order)), axis=1)


def _in_slice(
    parts: Sequence[Met], number: int, bits: int, order: np.ndarray, own: int, among: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of rows, the later and the earlier one in order, that share a key of one slice."""
    keys, rows = _in_order(*_gathered(parts, number, bits), order)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, dtype=int)
    sizes = np.diff(np.append(starts, len(keys)))
    first, place = np.repeat(starts, sizes), np.arange(len(keys))
    others = np.repeat(np.add.reduceat(rows >= own, starts) if len(starts) else starts, sizes)
    is_own = rows < own
    chosen = np.flatnonzero(is_own)
    for at in range(min(_FIRST_OTHERS if not among else _FIRST, int(others.max(initial=0)))):
        chosen = chosen[others[chosen] > at]
        yield rows[chosen], rows[first[chosen] + at]
    if not among:
        return
    mine = first + others
    most = int((place - mine).max(initial=0))
    chosen = np.flatnonzero(is_own)
    for at in range(min(_FIRST, most)):
        chosen = chosen[mine[chosen] + at < chosen]
        yield rows[chosen], rows[mine[chosen] + at]
    for back in range(1, min(_NEAREST, most - _FIRST) + 1):
        chosen = np.flatnonzero(is_own & (place - back >= mine + _FIRST))
        yield rows[chosen], rows[chosen - back]


def _in_order(
    keys: Sequence[np.ndarray], rows: Sequence[np.ndarray], order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each key that several rows have, int64, rising, and its rows, those of one key in order."""
    found = np.concatenate(keys)
    by_key = rising_order(found)
    found = found[by_key]
    is_new = np.ones(len(found) + 1, dtype=np.bool_)
    np.not_equal(found[1:], found[:-1], out=is_new[1:-1])
    is_shared = ~(is_new[:-1] & is_new[1:])
    # Numbers of keys and places in order are sorted as one, which is four times as fast as a sort by two columns.
    first = int(order.min(initial=0))
    number = np.cumsum(is_new[:-1][is_shared]) - 1
    found = np.sort(number * len(order) + order[np.concatenate(rows)[by_key[is_shared]]] - first)
    row_at = np.empty(len(order), dtype=np.int64)
    row_at[order - first] = np.arange(len(order))
    number, place = np.divmod(found, max(len(order), 1))
    return number, row_at[place]


def _gathered(parts: Sequence[Met], number: int, bits: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gather the keys of one slice, rising, and the rows that have them, part by part."""
    keys, rows = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    low, high = (number << (64 - bits), (number + 1) << (64 - bits)) if bits else (0, 1 << 64)
    for part in parts:
        start = np.searchsorted(part.keys, np.uint64(low))
        # 1 << 64 is no uint64: the last slice goes to the end.
        stop = len(part.keys) if high == 1 << 64 else np.searchsorted(part.keys, np.uint64(high))
        keys.append(np.asarray(part.keys[start:stop]))
        rows.append(part.rows[start:stop].astype(np.int64) + part.start)
    return keys, rows


class _Signatures:
    """The signatures of all parts, mapped from their files."""

    def __init__(self, parts: Sequence[Met]) -> None:
        self._starts = np.array([part.start for part in parts], dtype=np.int64)
        self._order = np.argsort(self._starts, kind="stable")
        self._known = [None if part.signatures is None else np.load(part.signatures, mmap_mode="r") for part in parts]

    def estimate(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Estimate float64 [pairs]: the share of equal numbers; 1 where there are none."""
        if not self._known or any(known is None for known in self._known):
            return np.ones(len(rows))
        return np.asarray((self._of(rows) == self._of(others)).mean(axis=1))

    def _of(self, rows: np.ndarray) -> np.ndarray:
        places = self._order[np.searchsorted(self._starts[self._order], rows, side="right") - 1]
        width = self._known[0].shape[1] if self._known[0] is not None else 0
        found = np.empty((len(rows), width), dtype=np.uint16)
        for part in np.unique(places).tolist():
            chosen = np.flatnonzero(places == part)
            found[chosen] = self._known[part][rows[chosen] - self._starts[part]]
        return found
