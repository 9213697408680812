"""Lost rows by stage and reason, with the places of some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.proven_files import prove_files
from orca_recipes.shards.records import COUNTED, REJECTED_NAME, read_table, rejected_schema
from orca_recipes.shards.text_columns import numbers

if TYPE_CHECKING:
    import pyarrow as pa

_PLACES = 3


@dataclass(frozen=True)
class Lost:
    """Rows that a stage lost for one reason, with the places of some.

    listed: whether the build lists them; rows that a mixture left out are counted alone.
    step: what within the stage lost them ("filter length"), "" where it was not looked up.
    """

    stage: str
    reason: str
    number: int
    listed: bool
    step: str = ""
    places: tuple[str, ...] = ()


def lost_rows(directory: Path, promised: Manifest, dataset: str, *, most: int) -> list[Lost]:
    """Say what a dataset lost, the greatest losses first; places are looked up for the first `most`.

    Raises: DamagedShard.
    """
    found = [
        Lost(stage.name, reason, number, reason not in COUNTED)
        for stage in promised.datasets[dataset].stages
        for reason, number in stage.rejected.items()
        if number
    ]
    found.sort(key=lambda lost: (-lost.number, lost.stage, lost.reason))
    path = f"{dataset}/{REJECTED_NAME}"
    if not any(lost.listed for lost in found[:most]):
        return found
    prove_files(directory, promised, [path])
    table = _ListedRows(read_table(directory / path, rejected_schema()))
    return [*(table.located(lost) if lost.listed else lost for lost in found[:most]), *found[most:]]


class _ListedRows:
    """The rows that a build lists as lost, told apart by collection and reason.

    Stages of the plan hold steps, by whose names rows are listed; so collection and reason say which belong together.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._collections, self._of_collection = _coded(table, "collection")
        self._reasons, self._of_reason = _coded(table, "reason")

    def located(self, lost: Lost) -> Lost:
        """Add the step that lost the rows and their first places."""
        verb, _, subject = lost.stage.partition(" ")
        fits = self._of_reason == self._reasons.get(lost.reason, -1)
        if verb != "pack":
            collection = subject if verb == "read" else subject.partition("/")[2]
            fits &= self._of_collection == self._collections.get(collection, -1)
        rows = [int(row) for row in np.flatnonzero(fits)[:_PLACES]]
        step = self._table["stage"][rows[0]].as_py() if rows else ""
        return replace(lost, step=step, places=tuple(self._place(row) for row in rows))

    def _place(self, row: int) -> str:
        collection, file, line = (self._table[name][row].as_py() for name in ("collection", "file", "line"))
        return f"{collection}/{'generated' if file is None else file}:{line}"


def _coded(table: pa.Table, name: str) -> tuple[dict[str, int], np.ndarray]:
    coded = table[name].combine_chunks().dictionary_encode()
    return {text: place for place, text in enumerate(coded.dictionary.to_pylist())}, numbers(coded.indices)
