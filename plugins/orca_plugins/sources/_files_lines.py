"""Where the lines of a block of JSON lines are, and which of them the fast reader may be trusted with.

pyarrow reads objects, not lines: it joins an object over two lines and takes two from one. In JSON no `}` is ever
followed by `{` inside of a value, so where each line begins with `{` and ends with `}`, each line holds whole objects,
and as many rows as lines then means one a line. All of it is done on the bytes at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from orca_plugins.sources._files_json import NESTING, nested_too_deep

_SPACE = b" \t\r"
_INFINITY = re.compile(rb"Inf[ \t\r]*[,\]}]")
"""What pyarrow takes for a number in a column that it skips, and JSON does not know; nor `-NaN`."""


@dataclass(frozen=True)
class Lines:
    """The lines of a block that are not blank.

    starts, ends: int64 [lines], bytes in the block, without the line feed. places: int64 [lines], physical lines.
    plain: bool [lines], True where the fast reader's answer for the line can be trusted.
    """

    block: bytes
    starts: np.ndarray
    ends: np.ndarray
    places: np.ndarray
    plain: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Place and bytes of each line."""
        for place, start, end in zip(self.places.tolist(), self.starts.tolist(), self.ends.tolist(), strict=True):
            yield place, self.block[start:end]

    def part(self, first: int, last: int) -> "Lines":
        """Lines first to last, last excluded."""
        cut = slice(first, last)
        return Lines(self.block, self.starts[cut], self.ends[cut], self.places[cut], self.plain[cut])

    def span(self) -> memoryview:
        """The bytes from the first line to the last."""
        return memoryview(self.block)[int(self.starts[0]) : int(self.ends[-1])]


def index_lines(block: bytes, *, first_place: int) -> Lines:
    """Find the lines of a block that begins at a line's start; only line feeds end lines."""
    codes = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(codes == ord("\n"))
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
    for row in _doubtful(block, codes, starts, ends):
        plain[row] = False
    places = np.arange(first_place, first_place + len(starts), dtype=np.int64)
    held = ~blank
    return Lines(block, starts[held], ends[held], places[held], plain[held])


def _look_like_objects(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether each line is { ... }, with nothing around but a carriage return."""
    bare = ends - ((ends > starts) & (codes[ends - 1] == ord("\r")))
    return np.asarray((bare > starts) & (codes[starts] == ord("{")) & (codes[bare - 1] == ord("}")))


def _doubtful(block: bytes, codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> set[int]:
    """Lines that pyarrow might read otherwise than JSON says: NUL, its own numbers, and deep nesting."""
    odd = [match.start() for match in _INFINITY.finditer(block)]
    if b"\0" in block:
        odd += np.flatnonzero(codes == 0).tolist()
    if b"-NaN" in block:
        odd += [match.start() for match in re.finditer(b"-NaN", block)]
    rows = set((np.searchsorted(starts, odd, side="right") - 1).tolist())
    opening = np.flatnonzero((codes | 0x20) == ord("{"))
    many = np.diff(np.searchsorted(opening, np.append(starts, len(block)))) > NESTING
    deep = {row for row in np.flatnonzero(many).tolist() if nested_too_deep(block[starts[row] : ends[row]])}
    return rows | deep
