"""Publication of a checkpoint: written aside, described, and renamed when all of it is on disk.

Where it cannot be written, nothing of it is left, and a sentence says why.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.distributed.checkpoint.api import CheckpointException

from orca_recipes.errors import StoreError
from orca_recipes.shards.files import write_whole
from orca_recipes.shards.publishing import foreign_files
from orca_recipes.train.checkpoints.checkpoint_files import (
    checkpoints,
    clear,
    digests_by_all_ranks,
    folder_name,
    keep_apart,
    publish,
    remove,
)
from orca_recipes.train.checkpoints.description import NAME, TOKENIZER, Checkpoint, read_checkpoint

_CUT_SHORT = "unexpected pos"
"""What torch says of a file that took fewer bytes than it was given, and leaves out why."""

_LITTLE_ROOM = 16_000_000
"""What a disk has left, in bytes, on which a checkpoint found no room."""


@dataclass(frozen=True)
class Publication:
    """A checkpoint on its way to its name; every rank calls each step.

    folder: of the run's checkpoints. keep: how many that end no phase stay there. tokenizer: files of the student's,
    written into the checkpoint so that it can be exported alone; None for none.
    """

    folder: Path
    checkpoint: Checkpoint
    keep: int
    tokenizer: Mapping[str, bytes] | None

    @property
    def published(self) -> Path:
        return self.folder / folder_name(self.checkpoint.step)

    @property
    def aside(self) -> Path:
        """Return the folder to write into, until everything is there."""
        return self.folder / f".{self.published.name}.partial"

    def begin(self) -> None:
        """Make an empty folder to write into."""
        if is_first():
            clear(self.folder)
            # Through links, also where what one leads to is still to be made.
            self.aside.resolve().mkdir(parents=True)
        # Into an empty folder: megatron-core takes one that holds anything for a damaged checkpoint, and says so.
        torch.distributed.barrier()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say inside why a checkpoint cannot be written, and leave nothing of it."""
        try:
            yield
        except (CheckpointException, OSError, RuntimeError) as error:
            why = last_line(error)
            if isinstance(error, RuntimeError) and _CUT_SHORT not in why:
                raise
            told = any(words in why for words in (_CUT_SHORT, os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)))
            # megatron-core 0.19 does not say what its writers met.
            has_no_room = told or shutil.disk_usage(self.folder).free < _LITTLE_ROOM
            if is_first():
                self.abandon()
            fault = "there is no room left on its disk" if has_no_room else f"it cannot be written ({why})"
            raise StoreError(
                f"{self.folder}: {fault} for the checkpoint {self.published.name}; nothing is left of it, and the "
                "checkpoint before it stands: make room, and run the same command again"
            ) from error

    def end(self, digests: Mapping[str, str] | None = None) -> Path:
        """Describe what was written, and give it its name; then remove all but the last ones that end no phase.

        Args:
            digests: of files that this rank's writers took while they wrote.
        Returns: the folder of the checkpoint.
        """
        with self.writing():
            if is_first() and self.tokenizer is not None:
                (self.aside / TOKENIZER).mkdir()
                for name, data in self.tokenizer.items():
                    write_whole(self.aside / TOKENIZER / name, data)
            torch.distributed.barrier()
            files = digests_by_all_ranks(self.aside, digests or {})
            if is_first():
                described = asdict(replace(self.checkpoint, files=files))
                write_whole(self.aside / NAME, (json.dumps(described, indent=1) + "\n").encode())
        if is_first():
            if self.published.exists() and _holds_foreign(self.published):
                keep_apart(self.published)
            publish(self.aside, self.published)
            _keep_last(self.folder, self.keep)
        torch.distributed.barrier()
        return self.published

    def abandon(self) -> None:
        """Leave nothing of what was written."""
        shutil.rmtree(self.aside, ignore_errors=True)


def is_first() -> bool:
    return torch.distributed.get_rank() == 0


def last_line(error: BaseException) -> str:
    """Return the end of what torch tells of all ranks' tracebacks: what went wrong."""
    return str(error).strip().rpartition("\n")[2] or type(error).__name__


def _keep_last(folder: Path, keep: int) -> None:
    passing = [place for place in checkpoints(folder) if read_checkpoint(place).ends_phase is None]
    for place in passing[: max(0, len(passing) - keep)]:
        if not _holds_foreign(place):
            remove(place)


def _holds_foreign(place: Path) -> bool:
    """Tell whether a checkpoint holds a user's files; it is not removed then."""
    return next(foreign_files(place, {NAME, *read_checkpoint(place).files}), None) is not None
