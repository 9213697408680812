"""One rank's input in one step: micro-batches of rows, collated to tensors.

A step's rows are dealt to the data-parallel ranks one by one, so ranks are disjoint and every layout trains on the same
rows in the same step. Ranks that get fewer run masked rows instead, because all must call the same collectives; the
mean is over target tokens or over the examples that have some, so a masked row weighs nothing.

B = rows of a micro-batch, T = row_tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from orca_recipes.shards.view import Room, TrainingView
from orca_recipes.train.data.order import PhaseOrder, RowPlace
from orca_recipes.train.data.rows import Rows
from orca_recipes.train.transfer import sent

Normalization = Literal["token", "example"]
"""What the loss is the mean over; `[training]` says which."""


@dataclass(frozen=True)
class Batch:
    """Some rows as tensors, FORMAT's training view one below the other.

    tokens_BT, labels_BT: int64. loss_mask_BT: float32, 0 or 1.
    cu_seqlens: for each row int32 [spans + 1], its bounds of attention; the last is T. They stay on the host, which
    lays them end to end and counts with them. max_seqlen: the longest span.
    wanted: int64 [targets], the places of target tokens, counted through all rows; one other where there are none.
    stored_tokens: those that are no pads. places: where the rows stand; fewer than B where the last ones are masked.
    """

    tokens_BT: torch.Tensor
    labels_BT: torch.Tensor
    loss_mask_BT: torch.Tensor
    wanted: torch.Tensor
    cu_seqlens: tuple[np.ndarray, ...]
    max_seqlen: int
    stored_tokens: int
    places: tuple[RowPlace, ...]

    @property
    def target_tokens(self) -> int:
        return int(np.count_nonzero(self.loss_mask_BT.numpy()))

    def span_targets(self) -> tuple[np.ndarray, ...]:
        """Count for each row how many target tokens each span has, int64 [spans]; call it on the host."""
        masks_BT = self.loss_mask_BT.numpy()
        return tuple(
            np.add.reduceat(mask, bounds[:-1]).astype(np.int64)
            for mask, bounds in zip(masks_BT, self.cu_seqlens, strict=True)
        )

    def weights_BT(self, normalization: Normalization) -> torch.Tensor:
        """Compute the weight of each label's loss, 0 where it is no target: float32 [B, T]; ask it on the host.

        An example's losses weigh 1 together where examples are counted, and 1 each where tokens are.
        """
        if normalization == "token":
            return self.loss_mask_BT
        spread = [
            np.repeat(1 / np.maximum(targets, 1), np.diff(bounds))
            for targets, bounds in zip(self.span_targets(), self.cu_seqlens, strict=True)
        ]
        return self.loss_mask_BT * torch.from_numpy(np.stack(spread).astype(np.float32))

    def terms(self, normalization: Normalization) -> int:
        """Count the losses to take the mean over: target tokens, or examples that have one."""
        if normalization == "token":
            return self.target_tokens
        return sum(int(np.count_nonzero(targets)) for targets in self.span_targets())

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device, except its bounds: the model makes a table of all rows' bounds and sends that."""
        return self._with(lambda tensor: sent(tensor, device))

    def pinned(self) -> Batch:
        """Copy the batch to memory of the host that a GPU can read by itself."""
        return self._with(torch.Tensor.pin_memory)

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return replace(
            self,
            tokens_BT=change(self.tokens_BT),
            labels_BT=change(self.labels_BT),
            loss_mask_BT=change(self.loss_mask_BT),
            wanted=change(self.wanted),
        )


@dataclass(frozen=True)
class Share:
    """A rank's share of each step's rows: rank of ranks, micro_rows of them at once."""

    rank: int
    ranks: int
    micro_rows: int

    def count(self, start: int, stop: int) -> int:
        """Count the micro-batches of rows start .. stop - 1; every rank has as many."""
        return -(-(stop - start) // (self.ranks * self.micro_rows))

    def positions(self, start: int, stop: int, number: int) -> Sequence[int]:
        """Return this rank's positions among rows start .. stop - 1 in one of its micro-batches, from 0."""
        mine = range(start + self.rank, stop, self.ranks)
        return mine[number * self.micro_rows : (number + 1) * self.micro_rows]


@dataclass(frozen=True)
class MicroBatches:
    """This rank's part of the rows at positions start .. stop - 1 of a phase, read one micro-batch after the other."""

    rows: Rows
    order: PhaseOrder
    share: Share
    start: int
    stop: int

    def __len__(self) -> int:
        """Count the micro-batches; every rank has as many."""
        return self.share.count(self.start, self.stop)

    @property
    def tokens(self) -> int:
        """Count the tokens of each micro-batch, pads included."""
        return self.share.micro_rows * self.rows.manifest.row_tokens

    def __getitem__(self, number: int) -> Batch:
        """Read one of them.

        Raises: DamagedShard where a row cannot be read; IndexError behind the last.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} micro-batches, and none with number {number}")
        positions = self.share.positions(self.start, self.stop, number)
        return read_batch(self.rows, [self.order[position] for position in positions], self.share.micro_rows)


def read_batch(rows: Rows, places: Sequence[RowPlace], micro_rows: int) -> Batch:
    """Read the rows at these places into one batch, filled up with masked rows to `micro_rows`."""
    room_BT = Room.of(micro_rows, rows.manifest.row_tokens)
    views = [rows.view(place, into=room_BT.row(n)) for n, place in enumerate(places)]
    views += [_masked(rows, room_BT.row(n)) for n in range(len(places), micro_rows)]
    # Of numbers, numpy counts what is not 0 twice as slowly as of truths.
    wanted = (room_BT.loss_mask > 0).ravel().nonzero()[0]
    return Batch(
        tokens_BT=torch.from_numpy(room_BT.tokens),
        labels_BT=torch.from_numpy(room_BT.labels),
        loss_mask_BT=torch.from_numpy(room_BT.loss_mask),
        # Every rank runs an output layer and meets the others, also where it has nothing to learn.
        wanted=torch.from_numpy(wanted) if len(wanted) else torch.zeros(1, dtype=torch.int64),
        cu_seqlens=tuple(view.cu_seqlens for view in views),
        max_seqlen=max(view.max_seqlen for view in views),
        stored_tokens=sum(view.stored_tokens for view in views),
        places=tuple(places),
    )


def _masked(rows: Rows, into: Room) -> TrainingView:
    """Lay out a row of pads, which carries no loss."""
    row_tokens = rows.manifest.row_tokens
    into.tokens[:], into.labels[:], into.loss_mask[:] = rows.manifest.pad_id, 0, 0
    return TrainingView(
        *into, cu_seqlens=np.array([0, row_tokens], dtype=np.int32), max_seqlen=row_tokens, stored_tokens=0
    )
