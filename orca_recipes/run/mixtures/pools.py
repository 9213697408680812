"""A collection as a pool to draw from: its ids, in groups, and which of its rows can be drawn at all.

Batches are read one after the other, so that memory grows with a few bytes a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.row_digests import Digests
from orca_recipes.run.examples.selection import UNREAD
from orca_recipes.run.mixtures.draw import Chunk
from orca_recipes.run.mixtures.questions import Questions
from orca_recipes.store.arrow_files import IDS, read_frame
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl

Grouping = Literal["task", "category"] | None

# Bounds the memory of a draw over many millions of rows.
_CHUNK_ROWS = 1 << 19


@dataclass(frozen=True)
class Collection:
    """The rows of a finished `read` stage.

    grouping: the column whose values are groups; None: all rows are one. weight: int64 [rows], None for 1 each.
    """

    read: StageFolder
    grouping: Grouping = None
    weight: np.ndarray | None = None

    @cached_property
    def ids(self) -> pl.DataFrame:
        return read_frame(self.read.file(f"{IDS}.arrow"))

    @cached_property
    def names(self) -> tuple[str | None, ...]:
        """Return the groups in order of their names, rows without one first."""
        if self.grouping is None:
            return ("",)
        found: set[str | None] = set()
        for batch in batches_of(self.read):
            found |= set(read_frame(batch.path, columns=[self.grouping])[self.grouping].unique())
        return tuple(sorted(found, key=lambda name: (name is not None, name or "")))

    def fresh(self) -> np.ndarray:
        """Return the selection before anything is drawn or left out: int16 [rows]."""
        return np.where(self.ids["keep"].to_numpy(), np.int16(0), np.int16(UNREAD))

    def chunks(self, selection: np.ndarray) -> Iterator[Chunk]:
        """Yield the rows in chunks with their groups; a row whose number in the selection is not 0 gets no group."""
        for start, stop, group in self._groups():
            # A span of the ids at a time: a large collection's are in several pieces, and joined they would be held.
            hi, lo = (self.ids[name].slice(start, stop - start).to_numpy() for name in ("id_hi", "id_lo"))
            drawable = np.where(selection[start:stop] == 0, group, np.int32(-1))
            yield Chunk(hi, lo, drawable, None if self.weight is None else self.weight[start:stop])

    def _groups(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield spans of rows with the group of each: int32 [rows]."""
        if self.grouping is None:
            for start in range(0, self.ids.height, _CHUNK_ROWS):
                stop = min(start + _CHUNK_ROWS, self.ids.height)
                yield start, stop, np.zeros(stop - start, dtype=np.int32)
            return
        for batch in batches_of(self.read):
            column = read_frame(batch.path, columns=[self.grouping])[self.grouping]
            yield batch.start, batch.stop, _codes(column, self.names)


def mark(selection: np.ndarray, mine: Questions, others: Sequence[Digests], number: int) -> None:
    """Mark with a number the rows that can still be drawn and have a question among those of others."""
    rows = np.flatnonzero(selection == 0)
    selection[rows[mine.among(others, rows)]] = number


def _codes(column: pl.Series, names: Sequence[str | None]) -> np.ndarray:
    import polars as pl

    table = pl.DataFrame({"name": pl.Series(names, dtype=pl.String), "code": np.arange(len(names), dtype=np.int32)})
    joined = column.alias("name").to_frame().join(table, on="name", how="left", nulls_equal=True, maintain_order="left")
    return joined["code"].to_numpy()
