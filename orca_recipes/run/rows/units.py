"""Parts of tokenized examples, and what packing looks at of them: mapped columns, held where they are gathered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca_recipes.plan.used_parts import taken_collections
from orca_recipes.run.tokens.ledger import LEDGER, read_ledger
from orca_recipes.run.work.bench import Bench
from orca_recipes.shards.layout import index_path, tokens_path
from orca_recipes.shards.records import ALL_TURNS, WINDOW
from orca_recipes.shards.text_columns import numbers
from orca_recipes.store.arrow_files import one_piece, read_frame, read_table
from orca_recipes.store.shared_stage import file_at_hand
from orca_recipes.store.stage_folder import Part, StageFolder
from orca_recipes.store.taken_over import is_taken

STORED = ("id_hi", "id_lo", "tokens", "trained_tokens", "flags", "text_hi", "text_lo", "ids_hi", "ids_lo")
"""The columns that packing looks at."""

TURN = "turn"
"""The column that tells examples of one conversation apart: the turn, and with it the window where there are some."""

RECORDS = ".records.arrow"

Columns = dict[str, np.ndarray]
"""Columns of examples by name: [examples] each."""


@dataclass(frozen=True)
class Unit:
    """One part of tokenized examples: `<prefix>.bin`, `.idx`, `.records.arrow`.

    is_taken: bool [examples], those that count of a part that an earlier stage made; None: all.
    """

    collection: str
    prefix: Path
    is_taken: np.ndarray | None = None

    def shard_files(self) -> tuple[Path, Path]:
        """Return the files of its tokens and its index, fetched where they are missing here."""
        return file_at_hand(tokens_path(self.prefix)), file_at_hand(index_path(self.prefix))

    @property
    def records(self) -> Path:
        return self.prefix.with_name(self.prefix.name + RECORDS)

    def columns(self) -> Columns:
        """Return STORED and TURN, mapped."""
        table = read_table(self.records)
        columns = {name: numbers(one_piece(table[name])) for name in STORED}
        is_told = TURN in table.column_names
        # Takes no memory where all examples hold all turns.
        whole = np.broadcast_to(np.int32(ALL_TURNS), table.num_rows)
        turns = numbers(one_piece(table[TURN])) if is_told else whole
        if WINDOW in table.column_names:
            # In the high half, so that windows of one turn differ and turns stay below them.
            turns = turns + (numbers(one_piece(table[WINDOW].fill_null(0))).astype(np.int64) << 32)
        return {**columns, TURN: turns}

    def lines(self, rows: Sequence[int]) -> list[tuple[str | None, int]]:
        """Read the source file of some examples, and the place of each in it."""
        return read_frame(self.records, columns=["file", "place"])[list(rows)].rows() if rows else []


def only_taken(values: np.ndarray, unit: Unit) -> np.ndarray:
    """Return values of a unit's examples [examples], with 0 or False for examples that do not count."""
    return values if unit.is_taken is None else values * unit.is_taken


def units_of(folders: Sequence[tuple[str, StageFolder]]) -> list[Unit]:
    """List the tokenized parts of a dataset from pairs of a collection and its finished `tokenize` stage."""
    found: list[Unit] = []
    for collection, folder in folders:
        parts = folder.parts()
        taken = _taken(parts)
        # The others tell where rows went.
        units = (part for part in parts if "tokens" in part.report)
        found += [Unit(collection, part.path(""), taken.get(part.name)) for part in units]
    return found


def _taken(parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """Mark, for each part taken over (by name), the examples counted by the ledgers of a stage: bool [examples]."""
    places: dict[str, list[np.ndarray]] = {}
    for part in parts:
        units = part.report.get("units", [])
        if any(is_taken(name) for name in units):
            ledger, _ = read_ledger(part.file(LEDGER))
            for code, name in enumerate(units):
                places.setdefault(name, []).append(ledger.examples_of(code))
    by_name = {part.name: part for part in parts}
    masks = {}
    for name, found in places.items():
        if is_taken(name):
            mask = np.zeros(read_table(Unit("", by_name[name].file("")).records).num_rows, dtype=bool)
            mask[np.concatenate(found)] = True
            if not mask.all():
                masks[name] = mask
    return masks


def units_of_dataset(bench: Bench, dataset: str) -> list[Unit]:
    """List the tokenized parts of a dataset."""
    collections = taken_collections(bench.recipe, dataset)
    return units_of([(name, bench.folder(f"tokenize {dataset}/{name}")) for name in collections])
