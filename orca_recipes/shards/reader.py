"""Reading a pair: rows, examples and training views, straight from memory-mapped files.

A pair is checked as columns when it is opened, so that everything after is arithmetic: garbage on disk gives one
sentence then, and never a traceback later. Offsets are explicit: an index may point into its `.bin` in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.objects.ranges import RangedFile, ranged_file
from orca_recipes.shards.checks.invariants import room_breaches, segment_breaches, vocabulary_breaches
from orca_recipes.shards.files import damage, map_file
from orca_recipes.shards.idx_file import Index, check_offsets, read_index
from orca_recipes.shards.layout import index_path, tokens_path
from orca_recipes.shards.segments import Segments
from orca_recipes.shards.view import Room, TrainingView, training_view

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from orca_recipes.shards.checks.invariants import Breach


@dataclass(frozen=True)
class Row:
    """One row as stored, without pads.

    tokens: uint16 or int32 [tokens of the row], a read-only view of the file where its segments are contiguous.
    segments: of this row alone; `segments.example_bounds` are the bounds of its examples in `tokens`.
    """

    tokens: np.ndarray
    segments: Segments


@dataclass(frozen=True)
class Shard:
    """An open pair.

    tokens: uint16 or int32, all of `.bin` in the order of the file. segments: of all rows, as columns.
    offsets: int64 [segments], bytes into `.bin`. Arrays are read-only maps of the files, and live as long as they are
    held. vocabulary_size, check: as handed to `open`. ranged: the tokens, where they are read by ranges: `bring` comes
    first.
    """

    prefix: Path
    tokens: np.ndarray
    segments: Segments
    index: Index
    vocabulary_size: int | None = None
    check: bool = False
    ranged: RangedFile | None = None

    @classmethod
    def open(
        cls,
        prefix: Path,
        *,
        vocabulary_size: int | None = None,
        check: bool = False,
        proven: bool = False,
        by_ranges: bool = False,
    ) -> Self:
        """Map a pair into memory.

        Args:
            prefix: path without suffix.
            proven: the index has the digest that the manifest promises, so its columns are not looked at again.
            vocabulary_size: with added tokens; what `check` holds tokens against.
            check: hold every row that is read against the format's invariants (for debugging).
            by_ranges: of a pair at an address whose tokens are not here, fetch those of rows that are read.
        Raises: DamagedShard, naming the file and what is wrong with it; ObjectsError where it cannot be fetched.
        """
        index = read_index(index_path(prefix), proven=proven)
        ranged = ranged_file(tokens_path(prefix)) if by_ranges else None
        stored = map_file(tokens_path(prefix)) if ranged is None else ranged.data
        if len(stored) % index.dtype.itemsize:
            raise damage(tokens_path(prefix), f"its {len(stored)} bytes are not whole {index.dtype.name} tokens")
        if not proven:
            check_offsets(index_path(prefix), index, len(stored))
        segments = Segments(index.lengths, index.modes, index.row_starts)
        return cls(prefix, stored.view(index.dtype), segments, index, vocabulary_size, check, ranged)

    @property
    def rows(self) -> int:
        return self.segments.rows

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.index.dtype

    @property
    def offsets(self) -> np.ndarray:
        return self.index.offsets

    def bring(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """Have tokens here that are about to be read: those from starts to stops, int64 [ranges].

        Raises: BucketError, ObjectsError.
        """
        if self.ranged is not None:
            self.ranged.bring(starts * self.dtype.itemsize, stops * self.dtype.itemsize)

    def row(self, row: int) -> Row:
        """Read one row, 0 <= row < rows.

        Raises: IndexError; under `check` DamagedShard, naming the row.
        """
        if not 0 <= row < self.rows:
            raise IndexError(f"{self.prefix} has rows 0 to {self.rows - 1}, not {row}")
        segments = self.segments.row(row)
        found = Row(self._tokens_of(row, segments), segments)
        if self.check:
            self._refuse(row, self._breaches(found))
        return found

    def training_view(
        self, row: int, *, row_tokens: int, align: int, pad_id: int, into: Room | None = None
    ) -> TrainingView:
        """Return the training view of one row.

        Args:
            into: where it is to lie; else it has arrays of its own.
        Raises: DamagedShard where the row's examples, rounded up to `align`, do not fit `row_tokens`.
        """
        found = self.row(row)
        if int(found.segments.rooms(align).sum()) > row_tokens:
            self._refuse(row, room_breaches(found.segments, row_tokens=row_tokens, align=align))
        return training_view(
            stored=found.tokens,
            segments=found.segments,
            row_tokens=row_tokens,
            align=align,
            pad_id=pad_id,
            into=into,
        )

    def _tokens_of(self, row: int, segments: Segments) -> np.ndarray:
        first = int(self.segments.row_starts[row])
        starts = self.index.offsets[first : first + len(segments.lengths)] // self.dtype.itemsize
        if self.ranged is not None:
            self.bring(starts, starts + segments.lengths)
        shifts = starts - segments.token_starts[:-1]
        places: slice | np.ndarray
        if (shifts == shifts[0]).all():
            places = slice(starts[0], starts[0] + segments.token_starts[-1])
        else:
            places = np.arange(segments.token_starts[-1]) + np.repeat(shifts, segments.lengths)
        return np.asarray(self.tokens[places])

    def _breaches(self, row: Row) -> Iterator[Breach]:
        yield from segment_breaches(row.segments)
        if self.vocabulary_size is not None:
            yield from vocabulary_breaches(row.segments, row.tokens, vocabulary_size=self.vocabulary_size)

    def _refuse(self, row: int, breaches: Iterator[Breach]) -> None:
        for breach in breaches:
            place = "" if breach.example is None else f" example {breach.example} of the row:"
            raise damage(index_path(self.prefix), f"row {row}:{place} {breach.sentence}")
