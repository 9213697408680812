"""As few rows as best fit needs, each as mixed as in a random order.

Best fit, longest first, puts equal lengths in one row, and these are mostly of one task. So best fit decides only how
many rows there may be; keys decide which example goes where.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from orca_plugins.packers._fullest_rows import count_rows, fullest_rows, rows_longest_first
from orca_plugins.packers._mixed_rows import mixed_rows, sorted_pairs
from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.kinds import Packer, Packing

ATTEMPTS = 8
"""Orders in which examples are dealt before equal lengths may share rows: few lengths may fit in no other way."""
MORE_ROWS = 2000
"""One row more than best fit's is allowed for so many: the last of many rows cost the most time to fill."""


class BestFit(Packer):
    """Fill as few rows as best fit, longest first, with examples of all lengths and tasks.

    Rows, and the examples in a row, stand in keyed order, so neighbours tell nothing of lengths.

        [packing]
        kind = "best_fit"
        row_tokens = 2048
    """

    kind: Literal["best_fit"] = "best_fit"
    revision: ClassVar[int] = 2

    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        self.refuse_overlong(lengths=lengths, row_tokens=row_tokens)
        by_key = _keyed_order(lengths, keys)
        # The narrowest type that holds row_tokens: gathers move fewer bytes.
        narrow = lengths.astype(np.uint32 if row_tokens >> 16 else np.uint16).take(by_key)
        fills = fullest_rows(np.bincount(lengths, minlength=row_tokens + 1), row_tokens)
        fewest = count_rows(fills)
        for attempt in range(ATTEMPTS):
            rows = mixed_rows(narrow, row_tokens=row_tokens, most=fewest + fewest // MORE_ROWS, attempt=attempt)
            if rows is not None:
                return _in_keyed_order(rows, by_key, keys)
        rows = np.empty(len(lengths), dtype=np.int64)
        # Longest first; stable, so that equal lengths stay in keyed order.
        rows[np.argsort(row_tokens - narrow, kind="stable")] = rows_longest_first(fills)
        return _in_keyed_order(rows, by_key, keys)


def _keyed_order(lengths: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return int64 [examples]: positions by key; where two keys are equal, by length, so that arrival never decides.

    Sorts the high bits of keys joined with positions, which is several times faster than an argsort, and then the few
    whose high bits are equal by themselves.
    """
    places = np.uint64((1 << len(keys).bit_length()) - 1)
    joined = keys & ~places
    joined |= np.arange(len(keys), dtype=np.uint64)
    joined.sort()
    order = (joined & places).astype(np.int64)
    same = (joined[1:] ^ joined[:-1]) <= places
    if same.any():
        tied = np.flatnonzero(np.append(same, [False]) | np.append([False], same))
        members = order[tied]
        order[tied] = members[np.lexsort((lengths[members], keys[members]))]
    return order


def _in_keyed_order(rows: np.ndarray, by_key: np.ndarray, keys: np.ndarray) -> Packing:
    """Shuffle rows by the smallest key they hold.

    Args:
        rows: int [examples], the row of each example, by key. by_key: int64 [examples], positions by key.
    """
    ranks = np.arange(len(rows), dtype=np.uint32)
    counts = np.bincount(rows)
    firsts = np.empty(len(counts), dtype=np.uint32)
    # Of places that are written twice the last counts: here the first of each row, which has its smallest key.
    firsts[rows[::-1]] = ranks[::-1]
    # Mixed again: rows of many examples have smaller smallest keys, and would all come first.
    shuffled = _order(splitmix64(keys[by_key[firsts]]))
    numbers = np.empty(len(counts), dtype=np.uint32)
    numbers[shuffled] = np.arange(len(counts), dtype=np.uint32)
    order = by_key.take(sorted_pairs(numbers.take(rows), ranks).astype(np.uint32))
    return Packing(order=order, row_starts=np.append(0, np.cumsum(counts[shuffled])))


def _order(values: np.ndarray) -> np.ndarray:
    """Return int64 [n]: positions by value, equal ones in order; they hardly ever are, and need the slower sort."""
    order = np.argsort(values)
    rising = values[order]
    return np.argsort(values, kind="stable") if (rising[1:] == rising[:-1]).any() else order
