"""A checkpoint's description of itself, `checkpoint.json`: all that is read to refuse one of another model or data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_recipes.errors import CheckpointError
from orca_recipes.json_text import json_value
from orca_recipes.train.checkpoints.checkpoint_files import checkpoints
from orca_recipes.train.model.architecture import Architecture

NAME = "checkpoint.json"
TOKENIZER = "tokenizer"
"""The student's tokenizer, chat template and generation settings, copied from the build."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's description of itself, as in `checkpoint.json`.

    step: how many were taken. manifest_digest: of the build it was trained on, None where it was imported and not yet
    trained. position: where in the data the run stands, as the loop wrote it. ends_phase: the phase that ended here;
    such a checkpoint is never removed. settings: what the run was told, for people. optimizer: whose state it holds.
    tensor_parallel, data_parallel, pipeline_parallel: how it was written; it can be read at any other layout.
    files: a digest of each.
    tokenizer_is_known: False where a model that brought no tokenizer was imported for a build, whose tokenizer it has.
    """

    architecture: Architecture
    step: int = 0
    manifest_digest: str | None = None
    position: Mapping[str, Any] = field(default_factory=dict)
    ends_phase: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    tensor_parallel: int = 1
    data_parallel: int = 1
    files: Mapping[str, str] = field(default_factory=dict)
    tokenizer_is_known: bool = True
    pipeline_parallel: int = 1


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint with the most steps under a folder, None without one. Half-written ones are not seen."""
    found = checkpoints(folder)
    return found[-1] if found else None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's description from its `checkpoint.json`.

    Raises: CheckpointError where it is none.
    """
    try:
        found = json_value((path / NAME).read_bytes())
        return Checkpoint(**{**found, "architecture": Architecture.from_json(found["architecture"])})
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is not a checkpoint: it has no {NAME}; name a folder step-... of a run, "
            "or make one with orca-recipe import-hf"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path / NAME}: it cannot be read ({error}); use the checkpoint before it") from error
