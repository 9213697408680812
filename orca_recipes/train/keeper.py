"""Checkpoints of a run, saved for the loop: at once, or by processes of their own while the training goes on.

At most one is on its way; the next one waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orca_recipes.train.checkpoints.background import Writing
from orca_recipes.train.checkpoints.checkpoint import begin_checkpoint, save_checkpoint
from orca_recipes.train.checkpoints.description import Checkpoint
from orca_recipes.train.checkpoints.position import Position
from orca_recipes.train.data.training_phases import TrainingPhase
from orca_recipes.train.model.network import Network
from orca_recipes.train.optimizer import Optimizer
from orca_recipes.train.start import begun_with
from orca_recipes.train.training_settings import Settings


@dataclass
class RunKeeper:
    """Writes checkpoints of a run into a folder. tokenizer: files that are copied into each."""

    settings: Settings
    model: Network
    optimizer: Optimizer
    folder: Path
    tokenizer: Mapping[str, bytes]
    _writing: Writing | None = field(default=None, init=False)

    def save(self, position: Position, *, ended: TrainingPhase | None) -> None:
        self.settle(wait=True)
        training = self.settings.chosen[0].training
        checkpoint = Checkpoint(
            architecture=self.model.architecture,
            step=position.step,
            manifest_digest=self.settings.manifest.digest,
            position=position.as_json(),
            ends_phase=None if ended is None else str(ended.number),
            settings={**self.settings.as_json(), **begun_with(self.settings)},
        )
        what = (self.folder, checkpoint, self.model, self.optimizer)
        if training.async_checkpoints:
            self._writing = begin_checkpoint(*what, keep=training.keep_checkpoints, tokenizer=self.tokenizer)
        else:
            save_checkpoint(*what, keep=training.keep_checkpoints, tokenizer=self.tokenizer)

    def settle(self, *, wait: bool) -> None:
        if self._writing is not None and self._writing.is_published(wait=wait):
            self._writing = None

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """Leave nothing half written where the training ends by a fault."""
        try:
            yield
        except BaseException:
            if self._writing is not None:
                self._writing.abandon()
            raise
