"""Pairs of rows that met, held against each other in tasks of bounded size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.comparison import Comparison
from orca_recipes.run.comparisons.sketching import Pool, keep_array
from orca_recipes.store.stage_folder import PartWriter

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Side:
    """One side of some pairs.

    pools: those that hold its rows; heads: the system message that each one's collection shares. which, places: int64
    [pairs], the pool of each row and its place there.
    """

    pools: tuple[Pool, ...]
    heads: tuple[str | None, ...]
    which: np.ndarray
    places: np.ndarray

    def texts(self, *, whole: bool) -> pl.DataFrame:
        """Return question and answer of each row; a row that stands in many pairs is read once."""
        import polars as pl

        found, rows = [], []
        for number, (pool, head) in enumerate(zip(self.pools, self.heads, strict=True)):
            chosen = np.flatnonzero(self.which == number)
            needed, back = np.unique(self.places[chosen], return_inverse=True)
            found.append(pool.texts(head, needed, whole=whole)[back.reshape(-1)])
            rows.append(chosen)
        return pl.concat(found)[np.argsort(np.concatenate(rows))]


@dataclass(frozen=True)
class LikenessTask:
    """Hold some pairs against each other; shared: as `Comparison.likeness` is handed it."""

    name: str
    folder: Path
    kind: Comparison
    mine: Side
    theirs: Side
    shared: np.ndarray


def likeness_part(task: LikenessTask) -> int:
    """Store how alike pairs are, NaN where they are not."""
    mine, theirs = (side.texts(whole=task.kind.reads_prompts()) for side in (task.mine, task.theirs))
    found = task.kind.likeness(mine=mine, theirs=theirs, shared=task.shared)
    writer = PartWriter(task.folder, task.name)
    keep_array(writer.path(".npy"), found.fill_null(float("nan")).to_numpy())
    writer.keep([".npy"], {"rows": len(found)})
    return len(found)
