"""Choice among rows that are alike: the first in order stays, and each row unlike all that stay before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Verdicts:
    """Findings of comparisons on a dataset's rows.

    twin_of: int64 [rows, comparisons], the row that each is like, -1 for none; share_of: how alike they are.
    is_rejected: bool [rows].
    """

    twin_of: np.ndarray
    share_of: np.ndarray
    is_rejected: np.ndarray

    @classmethod
    def none(cls, rows: int, comparisons: int) -> Verdicts:
        shape = (rows, comparisons)
        return cls(np.full(shape, -1, dtype=np.int64), np.full(shape, np.nan), np.zeros(rows, dtype=np.bool_))

    def add(self, number: int, twin: np.ndarray, share: np.ndarray, *, rejects: bool) -> None:
        """Note what one comparison found of all rows."""
        self.twin_of[:, number], self.share_of[:, number] = twin, share
        if rejects:
            self.is_rejected[twin >= 0] = True


def first_stays(pairs: np.ndarray, alike: np.ndarray, order: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the twin of each own row that does not stay, -1 for the others, and how alike both are.

    Of several twins that stay a row gets the one that it is most like, of those the first.

    Args:
        pairs: int64 [pairs, 2], an own row and one before it in order. alike: float64 [pairs], NaN where they are not.
        order: int64 [rows], the place of each row.
    """
    twin, share = np.full(own, -1, dtype=np.int64), np.full(own, np.nan)
    found = np.flatnonzero(~np.isnan(alike))
    later, earlier, value = pairs[found, 0], pairs[found, 1], alike[found]
    sorting = np.lexsort((order[earlier], -value, order[later]))
    gone: set[int] = set()
    for row, other, likeness in zip(
        later[sorting].tolist(), earlier[sorting].tolist(), value[sorting].tolist(), strict=True
    ):
        if row not in gone and other not in gone:
            gone.add(row)
            twin[row], share[row] = other, likeness
    return twin, share
