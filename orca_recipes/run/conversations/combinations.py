"""Rows grouped by equal values in some columns, so that each combination is worked out once.

Texts are coded by polars and codes folded into one number a row, so a million rows cost a fraction of a second however
long their texts are; nothing that is computed depends on the order of the codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

# A table so wide takes 144 MiB (flags and their running sum); wider ones are sorted.
_LARGEST_TABLE = 1 << 24
_WORTH_NUMBERING = 1 << 16
"""Numbers are left with gaps as long as they stay below: closing them looks at every row."""


def combinations(columns: Sequence[pl.Series | np.ndarray], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct combinations of values over rows.

    Args:
        columns: [rows] each, of String or Boolean, or integers that are not negative and small.
    Returns: groups int64 [rows], the number of each row's combination, and firsts int64 [combinations], a row of each.
    """
    groups, count = np.zeros(rows, dtype=np.int64), 1
    for column in columns:
        codes = column if isinstance(column, np.ndarray) else _codes(column)
        width = int(codes.max(initial=0)) + 1
        if width > 1:
            groups *= width
            groups += codes
            count *= width
        if count > _WORTH_NUMBERING:
            groups, count = _dense(groups, count)
    groups, count = _dense(groups, count)
    firsts = np.zeros(count if rows else 0, dtype=np.int64)
    # Backwards, so that the first row of a combination is written last and stays.
    firsts[groups[::-1]] = np.arange(rows - 1, -1, -1)
    return groups, firsts


def _codes(column: pl.Series) -> np.ndarray:
    """Code each value as a number, 0 for null."""
    import polars as pl

    physical = column.cast(pl.Categorical).to_physical() if column.dtype == pl.String else column
    codes = physical.cast(pl.Int64)
    return np.asarray((codes + 1 if not codes.null_count() else (codes + 1).fill_null(0)).to_numpy())


def _dense(codes: np.ndarray, width: int) -> tuple[np.ndarray, int]:
    """Renumber the same classes without gaps."""
    if width > _LARGEST_TABLE:
        distinct, dense = np.unique(codes, return_inverse=True)
        return dense.astype(np.int64).reshape(-1), len(distinct)
    there = np.zeros(width, dtype=bool)
    there[codes] = True
    numbers = np.cumsum(there) - 1
    return numbers[codes].astype(np.int64), max(int(there.sum()), 1)
