"""Workers get ready while the main process pins: what takes them a second each then costs no time.

Only a build that is large enough to be worth workers starts them early, and what is done here decides nothing: a worker
that was never warmed imports and loads with its first part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_recipes.contract.kinds import Tokenizer
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.arrow import keep_pandas_out
from orca_recipes.run.loaded import opened

SLICE_BYTES = 8 << 20
"""Input of one unit of reading, about."""

TASKS_WORTH_WORKERS = 8
"""Fewer tasks than this are done in the main process: starting a worker takes as long as they do."""


@dataclass(frozen=True)
class Loading:
    """A tokenizer of the store to load."""

    tokenizer: Tokenizer
    folder: Path


def is_worth_workers(recipe: Recipe, collections: Sequence[str]) -> bool:
    """Whether the files of these collections make enough parts, as far as their sizes tell."""
    sizes = [_size(file.path) for name in collections for file in recipe.collections[name].files()]
    return sum(sizes) >= TASKS_WORTH_WORKERS * SLICE_BYTES


def import_libraries(_: None) -> None:
    """Import what every part needs."""
    import polars

    # An expression once: polars readies its engine with the first.
    polars.select(polars.lit(1))
    keep_pandas_out()


def load_tokenizer(task: Loading) -> None:
    """Load a tokenizer, and have the fast one checked against the reference."""
    opened(task.tokenizer, task.folder).verdict()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # who reads it tells
