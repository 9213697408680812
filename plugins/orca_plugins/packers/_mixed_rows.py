"""Rows that are as mixed as a random order, and about as full as best fit's.

Examples are dealt to rows in a random order, which leaves some hundredths of each row empty. So many rows are then
taken apart that what they held just fills the others: each other row takes one of those examples to be full, beside
those it holds or in place of one. What is left is dealt again. Exchanges are decided by counts of lengths, for all rows
at once, so five million examples take half a second.
"""

from __future__ import annotations

import numpy as np

from orca_plugins.packers._fullest_rows import count_rows, fullest_rows, rows_longest_first
from orca_recipes.contract.draws import splitmix64

ROWS_A_LANE = 64
"""Lanes are dealt side by side; the last row of each is hardly ever full, and is taken apart."""
SWEEPS = 4
PLACES = 6
"""So many examples of a row are tried for an exchange, the last first."""
ROWS_OF_LEFT = 500
"""One row in so many is made of what others left: the last rows to be filled would else find nothing that fits."""
FEW_EXAMPLES = 64
"""Too few to be dealt again: best fit takes them."""
_HALF = np.uint64(32)


def mixed_rows(lengths: np.ndarray, *, row_tokens: int, most: int, attempt: int) -> np.ndarray | None:
    """Deal examples to rows and fill each; None where that takes more rows than there may be.

    Args:
        lengths: int32 [examples] in keyed order, each at most row_tokens.
        most: rows that there may be. attempt: another number deals in another order.
    Returns: int32 [examples], the row of each.
    """
    if attempt:
        order = _dealt(np.arange(len(lengths)), attempt)
        rows = mixed_rows(lengths[order], row_tokens=row_tokens, most=most, attempt=0)
        return None if rows is None else rows[np.argsort(order)]
    found = _Deal(lengths, row_tokens, most).filled()
    made, left = _counted(found), np.flatnonzero(found < 0)
    while len(left) > FEW_EXAMPLES and made < most:
        again = _dealt(left, made)
        rows = _Deal(lengths[again], row_tokens, most - made).filled()
        found[again] = np.where(rows < 0, -1, rows + made)
        made, before, left = made + _counted(rows), len(left), np.flatnonzero(found < 0)
        # Another deal would hardly shrink what is left.
        if 2 * len(left) > before:
            break
    fills = fullest_rows(np.bincount(lengths[left], minlength=row_tokens + 1), row_tokens)
    longest_first = left[np.argsort(row_tokens - lengths[left], kind="stable")]
    found[longest_first] = rows_longest_first(fills) + made
    return found if made + count_rows(fills) <= most else None


def sorted_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """uint64 [n]: two numbers below 2^32 as one, sorted, the second in its low half. One integer sorts the fastest, and
    of arrays of this size every pass and every gather counts, so numbers stay as narrow as they may."""
    joined = first.astype(np.uint64)
    joined <<= _HALF
    joined |= second
    joined.sort()
    return joined


def _counted(rows: np.ndarray) -> int:
    return int(rows.max(initial=-1)) + 1


def _dealt(members: np.ndarray, salt: int) -> np.ndarray:
    """Deal members in another order."""
    places = np.arange(len(members), dtype=np.uint64)
    return members[np.argsort(splitmix64(splitmix64(places) + np.uint64(salt)))]


class _Deal:
    """Examples dealt to rows in the order given, then exchanged with those of rows taken apart, to fill the other
    rows."""

    def __init__(self, lengths: np.ndarray, row_tokens: int, most: int) -> None:
        self._lengths, self._row_tokens, self._most = lengths, row_tokens, most
        sums = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=sums[1:])
        starts = _row_starts(sums, row_tokens)
        self._bounds = np.append(starts, len(lengths))
        self._free = row_tokens - np.diff(sums[self._bounds])
        self._rows = np.repeat(np.arange(len(starts), dtype=np.int32), np.diff(self._bounds))
        self._empty = most * row_tokens - int(sums[-1])

    def filled(self) -> np.ndarray:
        """Return int32 [examples]: the row of each, numbered from 0, or -1 where it is left to be dealt again."""
        count = len(self._free)
        if count <= self._most:
            return self._rows
        # What may stay empty is shared out evenly, so that all rows together never waste more.
        self._spare = self._empty // self._most
        kept = self._most - max(1, self._most // ROWS_OF_LEFT)
        is_open = self._free > self._spare
        apart = np.argsort(-self._free, kind="stable")[: count - kept]
        is_open[apart] = False
        self._open = np.flatnonzero(is_open)
        self._take_apart(apart)
        self._asked: list[tuple[np.ndarray, np.ndarray]] = []
        for _ in range(SWEEPS):
            self._add()
            for place in range(PLACES):
                self._exchange(place)
        self._hand_out()
        self._take_apart(self._open)
        is_row = np.bincount(self._rows + 1, minlength=count + 1)[1:] > 0
        numbers = np.append(np.cumsum(is_row, dtype=np.int32) - 1, np.int32(-1))
        return numbers[self._rows]

    def _take_apart(self, rows: np.ndarray) -> None:
        is_one = np.zeros(len(self._free) + 1, dtype=np.bool_)
        is_one[rows] = True
        self._rows[is_one[self._rows]] = -1
        self._stock = np.bincount(self._lengths[self._rows < 0], minlength=self._row_tokens + 1)

    def _add(self) -> None:
        """Let each open row take an example that fills it."""
        room = self._free[self._open]
        self._serve(np.arange(len(room)), room, np.empty(0, dtype=np.int64))

    def _exchange(self, place: int) -> None:
        """Let each open row take an example that fills it in place of the one it holds at a place from its end."""
        items = self._bounds[self._open + 1] - 1 - place
        at = np.flatnonzero(items >= self._bounds[self._open])
        items = items[at]
        self._serve(at, self._free[self._open[at]] + self._lengths[items], items)

    def _serve(self, at: np.ndarray, room: np.ndarray, given: np.ndarray) -> None:
        """Give the first who ask for a length as many as there are of it.

        Args:
            at: positions among open rows. room: tokens that each has room for. given: what each gives, or nothing.
        """
        longest = np.maximum.accumulate(np.where(self._stock > 0, np.arange(self._row_tokens + 1), 0))
        wanted = longest[room]
        fits = (wanted > 0) & (room - wanted <= self._spare)
        if len(given):
            fits &= wanted != self._lengths[given]
        fits = np.flatnonzero(fits)
        joined = sorted_pairs(wanted[fits], fits.astype(np.uint64))
        asked, who = (joined >> _HALF).astype(np.int64), joined.astype(np.uint32)
        before = np.cumsum(np.bincount(asked, minlength=self._row_tokens + 1))
        rank = np.arange(len(asked)) - np.append(0, before)[asked]
        is_served = rank < self._stock[asked]
        asked, who = asked[is_served], who[is_served]
        self._asked.append((self._open[at[who]], asked))
        self._stock -= np.bincount(asked, minlength=self._row_tokens + 1)
        if len(given):
            self._rows[given[who]] = -1
            self._stock += np.bincount(self._lengths[given[who]], minlength=self._row_tokens + 1)
        self._open = np.delete(self._open, at[who])

    def _hand_out(self) -> None:
        """Give rows the examples whose lengths they were promised."""
        rows, asked = (np.concatenate(column) for column in zip(*self._asked, strict=True))
        wanted = sorted_pairs(asked, np.arange(len(asked), dtype=np.uint64))
        asked, who = (wanted >> _HALF).astype(np.int64), wanted.astype(np.uint32)
        loose = np.flatnonzero(self._rows < 0)
        held = sorted_pairs(self._lengths[loose], np.arange(len(loose), dtype=np.uint64))
        most = self._row_tokens + 1
        before = np.append(0, np.cumsum(np.bincount((held >> _HALF).astype(np.int64), minlength=most)))[asked]
        before -= np.append(0, np.cumsum(np.bincount(asked, minlength=most)))[asked]
        self._rows[loose[held.astype(np.uint32)[before + np.arange(len(asked))]]] = rows[who]


def _row_starts(sums: np.ndarray, row_tokens: int) -> np.ndarray:
    """Return int64 [rows]: where each row starts when examples are dealt one after the other, in lanes side by side."""
    lanes = 1 + int(sums[-1]) // (ROWS_A_LANE * row_tokens)
    at = np.arange(lanes + 1) * (len(sums) - 1) // lanes
    at, ends = at[:-1], at[1:]
    found = []
    while (is_live := at < ends).any():
        at, ends = at[is_live], ends[is_live]
        found.append(at)
        at = np.minimum(np.searchsorted(sums, sums[at] + row_tokens, side="right") - 1, ends)
    return np.sort(np.concatenate(found)) if found else at[:0]
