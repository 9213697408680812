"""Best fit decreasing over a histogram of lengths: as few rows as are worth looking for.

Rows that hold the same lengths are kept as one run and filled together, so the cost of the search grows with the number
of distinct lengths, not with the number of examples. Equal lengths come to lie in one row.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

Fill = tuple[int, int, int]
"""What a run of rows takes in turn: (first row, rows, examples of the current length that each takes)."""


def fullest_rows(counts: np.ndarray, row_tokens: int) -> list[Fill]:
    """Put each example, longest first, in the fullest row that still has room.

    The fullest row with room stays the fullest while it has room, so it takes as many of one length as fit.

    Args:
        counts: int64 [row_tokens + 1], how many examples have each length.
    """
    fills: list[Fill] = []
    rooms = _Rooms()
    rows = 0
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left:
            free, first, count = rooms.take(length) or (row_tokens, rows, left)
            each = min(free // length, left)
            used = min(count, left // each)
            rows = max(rows, first + used)
            fills.append((first, used, each))
            left -= used * each
            rooms.give(free - each * length, first, used)
            if first + used < rows:
                rooms.give(free, first + used, count - used)
    return fills


def count_rows(fills: list[Fill]) -> int:
    """Count the rows that were filled."""
    return max((first + count for first, count, _ in fills), default=0)


def rows_longest_first(fills: list[Fill]) -> np.ndarray:
    """Return int64 [examples]: the row of each example, when examples come longest first."""
    first_rows, row_counts, repeats = np.array(fills, dtype=np.int64).reshape(-1, 3).T
    runs = np.repeat(first_rows, row_counts)
    inside = np.arange(len(runs)) - np.repeat(np.cumsum(row_counts) - row_counts, row_counts)
    return np.repeat(runs + inside, np.repeat(repeats, row_counts))


class _Rooms:
    """Runs of open rows by the tokens they have free."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._runs: dict[int, list[tuple[int, int]]] = {}

    def take(self, length: int) -> tuple[int, int, int] | None:
        """Take a run of the fullest rows with room for `length`: (free, first row, rows), None where no row has
        room."""
        at = bisect_left(self._free, length)
        if at == len(self._free):
            return None
        free = self._free[at]
        first, count = self._runs[free].pop()
        if not self._runs[free]:
            del self._runs[free], self._free[at]
        return free, first, count

    def give(self, free: int, first: int, count: int) -> None:
        if not free or not count:
            return
        if free not in self._runs:
            insort(self._free, free)
        self._runs.setdefault(free, []).append((first, count))
