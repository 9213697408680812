"""Outcome of a run, read from its folder: `orca-recipe train BUILD --json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orca_recipes.train.checkpoints.description import newest_checkpoint
from orca_recipes.train.journal import LOG, read_log
from orca_recipes.train.start import CHECKPOINTS


def outcome_json(run: Path, *, status: int) -> dict[str, Any]:
    """Report a run's last step, its loss and its newest checkpoint; None for each that is missing.

    Args:
        status: with which the training ended: 0 done, 130 interrupted, others failed.
    """
    steps = [line for line in read_log(run / LOG) if "loss" in line]
    looks = [line for line in read_log(run / LOG) if "validation_loss" in line]
    checkpoint = newest_checkpoint(run / CHECKPOINTS)
    return {
        "run": str(run),
        "status": status,
        "step": steps[-1]["step"] if steps else None,
        "loss": steps[-1]["loss"] if steps else None,
        "validation_loss": looks[-1]["validation_loss"] if looks else None,
        # Logs of older versions have none.
        "validation_losses": looks[-1].get("validation_losses") if looks else None,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }
