"""Lay out one row as the tensors that a trainer feeds the model (docs/format.md, "From a row to a training sequence").

Labels, loss mask, positions and attention bounds all follow from the segments, so a trainer needs no template, no
end-of-text token and no rule of its own.

T = row_tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from orca_recipes.shards.layout import is_trained

if TYPE_CHECKING:
    from typing import Self

    from orca_recipes.shards.segments import Segments


@dataclass(frozen=True)
class TrainingView:
    """One row as tensors.

    tokens: int64 [T], pads hold the pad id. labels: int64 [T], the next token of the same example, else 0.
    loss_mask: float32 [T], 1 exactly where the label is trained.
    cu_seqlens: int32 [spans + 1], bounds of the padded examples and of what is left of the row; the last is T.
    max_seqlen: tokens of the longest span, the last one included. stored_tokens: those that are no pads.
    """

    tokens: np.ndarray
    labels: np.ndarray
    loss_mask: np.ndarray
    cu_seqlens: np.ndarray
    max_seqlen: int
    stored_tokens: int

    @cached_property
    def position_ids(self) -> np.ndarray:
        """Return int64 [T], from 0 in each span; packed attention wants none, so they are made where they are asked
        for."""
        starts = self.cu_seqlens[:-1].astype(np.int64)
        return np.arange(len(self.tokens)) - np.repeat(starts, np.diff(self.cu_seqlens))


class Room(NamedTuple):
    """Room for one row's tokens, labels and loss mask, as `TrainingView` has them; or, of [B, T], for some rows'."""

    tokens: np.ndarray
    labels: np.ndarray
    loss_mask: np.ndarray

    @classmethod
    def of(cls, *shape: int) -> Self:
        return cls(np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32))

    def row(self, n: int) -> Self:
        """Return the room of one of the rows."""
        return type(self)(self.tokens[n], self.labels[n], self.loss_mask[n])


def training_view(
    *, stored: np.ndarray, segments: Segments, row_tokens: int, align: int, pad_id: int, into: Room | None = None
) -> TrainingView:
    """Lay out one row.

    Args:
        stored: uint16 or int32 [tokens of the row], as stored, without pads.
        segments: of this row alone; its examples, rounded up to `align`, fit `row_tokens`.
        into: where the view is to lie, in a batch for one; else it has arrays of its own.
    """
    rooms = segments.rooms(align)
    bounds, length = _bounds(rooms, row_tokens), len(stored)
    tokens, labels, loss_mask = into or Room.of(row_tokens)
    # Laid out as if no example were rounded up, which is a copy; what follows the last example is nothing.
    tokens[:length], tokens[length:] = stored, pad_id
    labels[: length - 1], labels[length - 1 :] = stored[1:], 0
    loss_mask[: length - 1] = np.repeat(is_trained(segments.modes), segments.lengths)[1:]
    loss_mask[length - 1 :] = 0
    # An example's last token is followed by another example.
    last = segments.example_bounds[1:] - 1
    labels[last] = 0
    loss_mask[last] = 0
    if rooms is not segments.example_tokens and not np.array_equal(rooms, segments.example_tokens):
        shifts = bounds[: len(rooms)] - segments.example_bounds[:-1]
        places = np.arange(length) + np.repeat(shifts, segments.example_tokens)
        for laid_out, rest in ((tokens, pad_id), (labels, 0), (loss_mask, 0)):
            values = laid_out[:length].copy()
            laid_out[:] = rest
            laid_out[places] = values
    longest = max(int(rooms.max()), row_tokens - int(bounds[len(rooms)]))
    return TrainingView(tokens, labels, loss_mask, bounds.astype(np.int32), longest, length)


def _bounds(rooms: np.ndarray, row_tokens: int) -> np.ndarray:
    """Return int64 [spans + 1]: of each example with its pads, then of the rest of the row where there is one."""
    bounds = np.zeros(len(rooms) + 2, dtype=np.int64)
    rooms.cumsum(out=bounds[1:-1])
    bounds[-1] = row_tokens
    return bounds if bounds[-2] < row_tokens else bounds[:-1]
