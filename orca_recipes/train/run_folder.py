"""The folder of a run: what a training would write over is its own, or it is not begun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from orca_recipes.errors import TrainingError
from orca_recipes.train.checkpoints.checkpoint_files import checkpoints
from orca_recipes.train.checkpoints.description import NAME as CHECKPOINT
from orca_recipes.train.journal import LOG, TENSORBOARD
from orca_recipes.train.start import CHECKPOINTS
from orca_recipes.train.trackio_scalars import TRACKIO
from orca_recipes.train.training_settings import NAME as SETTINGS


def make_run_folder(run: Path) -> None:
    """Make a run's folder where it is not there, also through a link."""
    run.resolve().mkdir(parents=True, exist_ok=True)


def refuse_foreign_run(run: Path) -> None:
    """Refuse a folder with foreign files that a training would overwrite; other files in it are never touched.

    Raises: TrainingError, naming what is in the way.
    """
    if run.exists() and not run.is_dir():
        raise TrainingError(f"{run} is a file; choose another place with --out")
    foreign = next(_foreign(run), None)
    if foreign is not None:
        raise TrainingError(
            f"{run} holds {foreign}, which no training wrote and this one would write over; "
            "choose another place with --out, or move it elsewhere"
        )


def _foreign(run: Path) -> Iterator[str]:
    if not _is_run(run):
        yield from (name for name in (SETTINGS, LOG, TENSORBOARD, TRACKIO, CHECKPOINTS) if _holds_something(run / name))
    for place in checkpoints(run / CHECKPOINTS):
        if not (place / CHECKPOINT).is_file():
            yield f"{CHECKPOINTS}/{place.name}"


def _is_run(run: Path) -> bool:
    try:
        settings = json.loads((run / SETTINGS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(settings, dict) and {"manifest_digest", "phases"} <= settings.keys()


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.is_file() and path.stat().st_size > 0
