"""Lay out one row as the tensors that a trainer feeds the model (docs/format.md, "From a row to a training sequence").

Labels, loss mask, positions and attention bounds all follow from the segments, so a trainer needs no template, no
end-of-text token and no rule of its own.

T = row_tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.layout import is_trained

if TYPE_CHECKING:
    from orca_recipes.shards.segments import Segments


@dataclass(frozen=True)
class TrainingView:
    """One row as tensors.

    tokens: int64 [T], pads hold the pad id. labels: int64 [T], the next token of the same example, else 0.
    loss_mask: float32 [T], 1 exactly where the label is trained. position_ids: int64 [T], from 0 in each span.
    cu_seqlens: int32 [spans + 1], bounds of the padded examples and of what is left of the row; the last is T.
    max_seqlen: tokens of the longest span, the last one included. stored_tokens: those that are no pads.
    """

    tokens: np.ndarray
    labels: np.ndarray
    loss_mask: np.ndarray
    position_ids: np.ndarray
    cu_seqlens: np.ndarray
    max_seqlen: int
    stored_tokens: int


def training_view(*, stored: np.ndarray, segments: Segments, row_tokens: int, align: int, pad_id: int) -> TrainingView:
    """Lay out one row.

    Args:
        stored: uint16 or int32 [tokens of the row], as stored, without pads.
        segments: of this row alone; its examples, rounded up to `align`, fit `row_tokens`.
    """
    rooms = segments.rooms(align)
    bounds = _bounds(rooms, row_tokens)
    last = segments.example_bounds[1:] - 1
    following = np.zeros(len(stored), dtype=np.int64)
    following[:-1] = stored[1:]
    following[last] = 0
    is_label = np.zeros(len(stored), dtype=np.float32)
    is_label[:-1] = np.repeat(is_trained(segments.modes), segments.lengths)[1:]
    is_label[last] = 0
    # Where no example is rounded up, tokens lie in the row as they are stored: a slice is much cheaper than places.
    places: slice | np.ndarray = slice(len(stored))
    if not np.array_equal(rooms, segments.example_tokens):
        shifts = bounds[: len(rooms)] - segments.example_bounds[:-1]
        places = np.arange(len(stored)) + np.repeat(shifts, segments.example_tokens)

    tokens = np.full(row_tokens, pad_id, dtype=np.int64)
    tokens[places] = stored
    labels = np.zeros(row_tokens, dtype=np.int64)
    labels[places] = following
    loss_mask = np.zeros(row_tokens, dtype=np.float32)
    loss_mask[places] = is_label

    spans = np.diff(bounds)
    position_ids = np.arange(row_tokens) - np.repeat(bounds[:-1], spans)
    return TrainingView(tokens, labels, loss_mask, position_ids, bounds.astype(np.int32), int(spans.max()), len(stored))


def _bounds(rooms: np.ndarray, row_tokens: int) -> np.ndarray:
    """Return int64 [spans + 1]: of each example with its pads, then of the rest of the row where there is one."""
    ends = np.cumsum(rooms)
    rest = [row_tokens] if ends[-1] < row_tokens else []
    return np.concatenate([[0], ends, rest]).astype(np.int64)
