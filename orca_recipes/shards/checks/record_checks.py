"""The records of a shard against its index: one line an example, in order, with the numbers that the index tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.checks.invariants import Breach, of_examples
from orca_recipes.shards.records import ALL_TURNS, FLAGS, WINDOW

if TYPE_CHECKING:
    from orca_recipes.shards.records import Records
    from orca_recipes.shards.segments import Segments


def record_breaches(segments: Segments, records: Records) -> Iterator[Breach]:
    """Compare records with the index, column by column; the table has as many lines as the shard has examples."""
    for name, told in (
        ("row", segments.example_rows),
        ("place", segments.example_places),
        ("tokens", segments.example_tokens),
        ("trained_tokens", segments.example_trained_tokens),
    ):
        yield from _differences(segments, name, records.column(name), told)
    early = np.flatnonzero(records.column("turn") < ALL_TURNS)
    yield from of_examples(segments, early, lambda at: f"turn {records.column('turn')[at]} is none")
    if WINDOW in records.table.column_names:
        windows = records.table[WINDOW].fill_null(1).to_numpy()
        yield from of_examples(segments, np.flatnonzero(windows < 1), lambda at: f"window {windows[at]} is none")
    unknown = np.flatnonzero(records.column("flags") & ~np.int8(FLAGS))
    yield from of_examples(segments, unknown, lambda at: f"flags {records.column('flags')[at]} are not known")


def _differences(segments: Segments, name: str, said: np.ndarray, told: np.ndarray) -> Iterator[Breach]:
    yield from of_examples(
        segments, np.flatnonzero(said != told), lambda at: f"its record says {name} {said[at]}, the index {told[at]}"
    )
