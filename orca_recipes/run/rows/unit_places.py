"""Places of a shard's examples in their units, so that stored columns are gathered unit by unit.

What is gathered so is as large as the shard, however large the dataset is, and each unit is read from front to back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.text_columns import numbers
from orca_recipes.store.arrow_files import one_piece

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Places:
    """The examples of a shard, which holds one at least.

    units: int64 [examples], rising, the unit of each in the order of units; rows: int64 [examples], its row there,
    rising in a unit. rank: int64 [examples], which of those each example of the shard is, in the order of the shard.
    """

    units: np.ndarray
    rows: np.ndarray
    rank: np.ndarray

    @classmethod
    def of(cls, order: pa.Table) -> Places:
        """Read the places from a packed order."""
        unit, row = (numbers(one_piece(order[name])).astype(np.int64) for name in ("unit", "index"))
        # Unit above row in one number: sorted, each unit is read from front to back.
        by_place = _order(unit << int(row.max(initial=0)).bit_length() | row)
        rank = np.empty_like(by_place)
        rank[by_place] = np.arange(len(by_place))
        return cls(unit[by_place], row[by_place], rank)

    def by_unit(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each unit that holds some of the examples, with their rows."""
        starts = np.flatnonzero(np.diff(self.units, prepend=-1))
        for start, stop in zip(starts, np.append(starts[1:], len(self.units)), strict=True):
            yield int(self.units[start]), self.rows[start:stop]


def _order(values: np.ndarray) -> np.ndarray:
    """Return int64 [n]: what sorts numbers that are not negative. Joined with their places they sort several times
    faster."""
    bits = len(values).bit_length()
    # Joined they would spill into the sign, and sort to the front.
    if int(values.max(initial=0)).bit_length() + bits > 63:
        return np.argsort(values)
    joined = values << bits | np.arange(len(values))
    joined.sort()
    return np.asarray(joined & (1 << bits) - 1)
