"""Segments as columns: where rows, examples and trained tokens lie, for one row or for millions.

Everything is derived from three arrays, once and on demand, so that checks, counts and training views share one
arithmetic and no caller loops over segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.layout import is_trained, starts_example

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class Segments:
    """The segments of consecutive rows.

    lengths: int32 [segments], tokens. modes: int8 [segments]. row_starts: int64 [rows + 1] into segments.
    The first segment of every row starts an example.
    """

    lengths: np.ndarray
    modes: np.ndarray
    row_starts: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.row_starts) - 1

    @property
    def examples(self) -> int:
        return len(self.example_starts) - 1

    @cached_property
    def token_starts(self) -> np.ndarray:
        """Return int64 [segments + 1]: place of each segment's first token, counted over all stored tokens in row
        order."""
        return _running_total(self.lengths)

    @cached_property
    def example_starts(self) -> np.ndarray:
        """Return int64 [examples + 1] into segments."""
        starts = starts_example(self.modes).nonzero()[0]
        return np.concatenate((starts, (len(self.modes),)))

    @cached_property
    def row_examples(self) -> np.ndarray:
        """Return int64 [rows + 1]: the first example of each row."""
        return np.searchsorted(self.example_starts, self.row_starts)

    @cached_property
    def example_bounds(self) -> np.ndarray:
        """Return int64 [examples + 1]: place of each example's first token, counted over all stored tokens in row
        order."""
        return np.asarray(self.token_starts[self.example_starts])

    @cached_property
    def example_tokens(self) -> np.ndarray:
        """Count the tokens of each example: int64 [examples]."""
        # By slices: np.diff takes four times as long for what a row has of them.
        return np.asarray(self.example_bounds[1:] - self.example_bounds[:-1])

    @cached_property
    def example_trained_tokens(self) -> np.ndarray:
        """Return int64 [examples]: the sum of the loss mask, so an example's first token, which is no label, never
        counts."""
        trained = is_trained(self.modes)
        starts = self.example_starts[:-1]
        # The first token of an example is predicted by nothing, whatever its segment says.
        return np.asarray(_sums(np.where(trained, self.lengths, 0), starts) - trained[starts])

    @cached_property
    def example_rows(self) -> np.ndarray:
        """Return int64 [examples]: the row of each example."""
        return np.repeat(np.arange(self.rows), np.diff(self.row_examples))

    @cached_property
    def example_places(self) -> np.ndarray:
        """Return int64 [examples]: tokens stored before each example in its row (padding is never stored)."""
        return np.asarray(self.example_bounds[:-1] - self.token_starts[self.row_starts[:-1]][self.example_rows])

    def rooms(self, align: int) -> np.ndarray:
        """Return int64 [examples]: tokens each example takes in a training row, rounded up to `align`."""
        return self.example_tokens if align == 1 else -(-self.example_tokens // align) * align

    def row(self, row: int) -> Self:
        """Return the segments of one row alone."""
        start, stop = (int(bound) for bound in self.row_starts[row : row + 2])
        return type(self)(self.lengths[start:stop], self.modes[start:stop], np.array([0, stop - start]))


def _running_total(lengths: np.ndarray) -> np.ndarray:
    # int64 from the start: lengths are int32, and their sum passes 2^31 in a shard of some gigabytes.
    total = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=total[1:])
    return total


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    return np.asarray(np.add.reduceat(values, starts, dtype=np.int64))
