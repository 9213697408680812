"""An index of the lines in a block of JSON lines, marking those that pyarrow can be trusted with.

pyarrow reads objects, not lines: it joins an object over two lines, and reads two from one. In JSON no `}` is ever
followed by `{` inside of a value; so where each line begins with `{` and ends with `}`, each holds whole objects, and
as many rows as lines means one a line. All checks run on the bytes of all lines at once.

But for NUL, pyarrow departs from JSON only in columns that it skips; so the other checks are made only where it skips
any (`Lines.sure`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

_SPACE = b" \t\r"
_IN_CACHE = 1 << 18
"""Bytes looked at together where several looks are taken at the same ones."""
_INFINITY = re.compile(rb"Inf[ \t\r]*[,\]}]")
"""What pyarrow takes for a number in a column that it skips, and JSON does not know; nor `-NaN`."""


@dataclass(frozen=True)
class Lines:
    """The lines of a block that are not blank.

    starts, ends: int64 [lines], bytes in the block, without the line feed. places: int64 [lines], physical lines.
    plain: bool [lines], True where the fast reader's answer for the line can be trusted, if it skips nothing.
    next_place: the physical line that the block is followed by.
    """

    block: bytes
    starts: np.ndarray
    ends: np.ndarray
    places: np.ndarray
    plain: np.ndarray
    next_place: int

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Place and bytes of each line."""
        for place, start, end in zip(self.places.tolist(), self.starts.tolist(), self.ends.tolist(), strict=True):
            yield place, self.block[start:end]

    def part(self, first: int, last: int) -> "Lines":
        """Return lines first to last, last excluded."""
        cut = slice(first, last)
        return replace(
            self, starts=self.starts[cut], ends=self.ends[cut], places=self.places[cut], plain=self.plain[cut]
        )

    def sure(self) -> "Lines":
        """Clear `plain` of lines with a number that pyarrow may misread in a column it skips."""
        plain = self.plain.copy()
        plain[_misread(self)] = False
        return replace(self, plain=plain)

    def parted(self) -> "tuple[Lines, Lines]":
        """Split into the lines that are not plain, and the plain ones, moved together to close the gaps."""
        odd = replace(
            self,
            starts=self.starts[~self.plain],
            ends=self.ends[~self.plain],
            places=self.places[~self.plain],
            plain=self.plain[~self.plain],
        )
        if not len(odd) or len(odd) == len(self):
            return odd, self if not len(odd) else self.part(0, 0)
        begins = self.plain & ~np.append(False, self.plain[:-1])
        ends = self.plain & ~np.append(self.plain[1:], False)
        runs = [self.block[start:end] for start, end in zip(self.starts[begins], self.ends[ends], strict=True)]
        new = np.cumsum([0, *(len(run) + 1 for run in runs[:-1])])
        shift = (new - self.starts[begins])[np.cumsum(begins)[self.plain] - 1]
        kept = {name: getattr(self, name)[self.plain] for name in ("places", "plain")}
        starts, stops = self.starts[self.plain] + shift, self.ends[self.plain] + shift
        return odd, replace(self, block=b"\n".join(runs), starts=starts, ends=stops, **kept)

    def span(self) -> memoryview:
        """Return the bytes from the first line to the last."""
        return memoryview(self.block)[int(self.starts[0]) : int(self.ends[-1])]


def index_lines(block: bytes, *, first_place: int) -> Lines:
    """Find the lines of a block that begins at a line's start; only line feeds end lines."""
    codes = np.frombuffer(block, np.uint8)
    # In pieces that stay in the cache: half the time of the whole block at once.
    pieces = range(0, len(codes), _IN_CACHE)
    feeds = [np.flatnonzero(codes[start : start + _IN_CACHE] == ord("\n")) + start for start in pieces]
    ends = np.concatenate(feeds) if feeds else np.empty(0, np.int64)
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    starts = np.concatenate([[0], ends[:-1] + 1])
    plain = _look_like_objects(codes, starts, ends)
    blank = np.zeros(len(starts), bool)
    # Line by line only for lines that begin or end in white space or are no objects: in real files hardly any.
    for row in np.flatnonzero(~plain).tolist():
        text = block[starts[row] : ends[row]].strip(_SPACE)
        blank[row] = not text
        plain[row] = text.startswith(b"{") and text.endswith(b"}")
    if b"\0" in block:
        plain[_rows_of(np.flatnonzero(codes == 0), starts)] = False
    places = np.arange(first_place, first_place + len(starts), dtype=np.int64)
    held = ~blank
    count = len(starts) if block.endswith(b"\n") else len(starts) - 1
    return Lines(block, starts[held], ends[held], places[held], plain[held], first_place + count)


def count_feeds(data: bytes) -> int:
    """Count the line feeds in bytes: a third of the time of `bytes.count`, which begins anew at each."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))


def _look_like_objects(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Mark the lines that are { ... }, with nothing around but a carriage return."""
    bare = ends - ((ends > starts) & (codes[ends - 1] == ord("\r")))
    return np.asarray((bare > starts) & (codes[starts] == ord("{")) & (codes[bare - 1] == ord("}")))


def _misread(lines: Lines) -> np.ndarray:
    """Find the lines with numbers unknown to JSON (-NaN, Inf), which pyarrow may misread in columns it skips."""
    block, starts = lines.block, lines.starts
    codes = np.frombuffer(block, np.uint8)
    nan = _places_of(codes, b"NaN")
    odd = nan[(nan > 0) & (codes[nan - 1] == ord("-"))].tolist()
    odd += [at for at in _places_of(codes, b"Inf").tolist() if _INFINITY.match(block, at)]
    return _rows_of(np.array(odd, np.int64), starts)


def _places_of(codes: np.ndarray, word: bytes) -> np.ndarray:
    """Find a word that begins with a rare letter, int64 [places]: half the time of `bytes.find`."""
    found = []
    for start in range(0, len(codes), _IN_CACHE):
        places = np.flatnonzero(codes[start : start + _IN_CACHE] == word[0]) + start
        places = places[places <= len(codes) - len(word)]
        for offset, code in enumerate(word):
            places = places[codes[places + offset] == code]
        found.append(places)
    return np.concatenate(found)


def _rows_of(offsets: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the number of the line in which each byte lies."""
    return np.searchsorted(starts, offsets, side="right") - 1
