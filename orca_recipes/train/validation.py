"""The loss on rows that are held out: whole, and by collection, task and strategy.

Every rank sums what its rows give, and one sum over the ranks makes it the loss of all, equal at any layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from orca_recipes.train.data.batches import Batch, Normalization
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.data.validation_groups import Groups
from orca_recipes.train.transfer import sent


@dataclass(frozen=True)
class GroupLoss:
    """loss: mean over the group's target tokens, or over its examples. Both are counted."""

    loss: float
    target_tokens: int
    examples: int


@dataclass(frozen=True)
class Validation:
    """One look at the held-out rows. groups: by sort (collection, task, strategy) and name."""

    step: int
    phase: int
    loss: float
    target_tokens: int
    groups: Mapping[str, Mapping[str, GroupLoss]] = field(default_factory=dict)


class GroupSums:
    """Sums of losses by group, over the examples of this rank's rows."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._sums = {sort: np.zeros((len(names), 3)) for sort, names in groups.names.items()}
        self._heard: list[tuple[Sequence[RowPlace], Sequence[np.ndarray], torch.Tensor]] = []

    def hear(self, batch: Batch, loss_BT: torch.Tensor) -> None:
        """Take in the weighed losses of a batch; nothing is read from the device yet."""
        lengths = np.concatenate([np.diff(bounds) for bounds in batch.cu_seqlens])
        span_N = sent(torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)), loss_BT.device)
        loss_S = torch.zeros(len(lengths), dtype=torch.float64, device=loss_BT.device)
        loss_S.index_add_(0, span_N, loss_BT.flatten().double())
        self._heard.append((batch.places, batch.span_targets(), loss_S))

    def joined(
        self, mean_over: Normalization, *, device: torch.device, counts: bool
    ) -> dict[str, dict[str, GroupLoss]]:
        """Sum over all ranks and return the losses of groups with target tokens; every rank calls it.

        Args:
            device: on which ranks meet. counts: False on ranks whose rows another rank counts.
        """
        for places, targets, loss_S in self._heard:
            self._add(places, targets, loss_S.cpu().numpy())
        self._heard.clear()
        flat = np.concatenate([sums.ravel() for sums in self._sums.values()]) * counts
        everywhere = torch.from_numpy(flat).to(device)
        torch.distributed.all_reduce(everywhere)
        found, rest = {}, everywhere.cpu().numpy()
        for sort, names in self._groups.names.items():
            mine, rest = rest[: 3 * len(names)].reshape(-1, 3), rest[3 * len(names) :]
            found[sort] = dict(_told(names, mine, mean_over))
        return found

    def _add(self, places: Sequence[RowPlace], targets_of_rows: Sequence[np.ndarray], loss_S: np.ndarray) -> None:
        first = 0
        for place, targets in zip(places, targets_of_rows, strict=False):
            codes = self._groups.of(place)
            # What is left of a row behind its examples has no targets.
            mine = slice(len(codes))
            given = np.stack([loss_S[first:][mine], targets[mine], targets[mine] > 0], axis=1)
            for at, sums in enumerate(self._sums.values()):
                np.add.at(sums, codes[:, at], given)
            first += len(targets)


def _told(names: Sequence[str], sums: np.ndarray, mean_over: Normalization) -> list[tuple[str, GroupLoss]]:
    told = []
    for name, (loss, tokens, examples) in zip(names, sums.tolist(), strict=True):
        if examples:
            terms = tokens if mean_over == "token" else examples
            told.append((name, GroupLoss(loss / terms, round(tokens), round(examples))))
    return told
