"""Policy for examples longer than a row: they are cut, or rejected, or the build is refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.draws import id_text
from orca_recipes.contract.kinds import Encoder, Packer
from orca_recipes.errors import OverlongExample
from orca_recipes.run.rows.cut import Cut, cut_example
from orca_recipes.run.rows.units import STORED, Columns, Unit, only_taken

if TYPE_CHECKING:
    import polars as pl

CHANGED = tuple(name for name in STORED if not name.startswith("id_"))
"""The columns that a cut changes."""

_WHY = {
    "drop_history": "longer than a row with its last exchange alone",
    "window": "a row is too short for a window of it",
}
"""Why examples are rejected that were to be made to fit while they were tokenized."""


@dataclass(frozen=True)
class Fitted:
    """Cuts and losses of the examples of one unit.

    cut: index, rising, and CHANGED of the examples that are cut. lost: why others are rejected, by index.
    """

    cut: Columns
    lost: dict[int, str]


def fit(
    stored: Sequence[Columns],
    units: Sequence[Unit],
    packer: Packer,
    open_encoder: Callable[[], Encoder],
    turn_ends: Collection[int],
) -> list[Fitted]:
    """Cut or reject what is longer than a row, unit by unit.

    Args:
        stored: of each unit. open_encoder: loads what decodes the rest of examples that are cut. turn_ends: as for
            `cut_example`.
    Raises: OverlongExample where the recipe wants that.
    """
    over = [
        np.flatnonzero(only_taken(columns["tokens"] > packer.row_tokens, unit))
        for columns, unit in zip(stored, units, strict=True)
    ]
    is_cut = packer.overlong in ("drop_turns", "truncate")
    encoder = open_encoder() if is_cut and any(len(rows) for rows in over) else None
    fitted = []
    for columns, unit, rows in zip(stored, units, over, strict=True):
        if len(rows) and packer.overlong == "error":
            raise OverlongExample(_complaint(columns, int(rows[0]), unit, packer.row_tokens))
        found = {index: _cut(columns, index, unit, packer, encoder, turn_ends) for index in rows.tolist()}
        cut = {index: one for index, one in found.items() if isinstance(one, Cut)}
        lost = {index: one for index, one in found.items() if isinstance(one, str)}
        fitted.append(Fitted(_columns_of(cut, columns), lost))
    return fitted


def rejected_of(stored: Sequence[Columns], units: Sequence[Unit], fitted: Sequence[Fitted]) -> pl.DataFrame:
    """List the rejected examples, one line each."""
    import polars as pl

    lost = [
        (unit, columns, index) for unit, columns, one in zip(units, stored, fitted, strict=True) for index in one.lost
    ]
    lines = [line for unit, one in zip(units, fitted, strict=True) for line in unit.lines(list(one.lost))]
    reasons = [reason for one in fitted for reason in one.lost.values()]
    return pl.DataFrame(
        {
            "id_hi": pl.Series([columns["id_hi"][index] for _, columns, index in lost], dtype=pl.UInt64),
            "id_lo": pl.Series([columns["id_lo"][index] for _, columns, index in lost], dtype=pl.UInt64),
            "file": pl.Series([file for file, _ in lines], dtype=pl.String),
            "place": pl.Series([place for _, place in lines], dtype=pl.Int64),
            "reason": pl.Series(reasons, dtype=pl.String),
            "stage": pl.Series(["pack"] * len(lost), dtype=pl.String),
            "collection": pl.Series([unit.collection for unit, _, _ in lost], dtype=pl.String),
        }
    )


def _cut(
    columns: Columns, index: int, unit: Unit, packer: Packer, encoder: Encoder | None, turn_ends: Collection[int]
) -> Cut | str:
    if encoder is None:
        return _WHY.get(packer.overlong, "longer than a row")
    flags = int(columns["flags"][index])
    unit.shard_files()
    return cut_example(unit.prefix, index, packer=packer, flags=flags, encoder=encoder, turn_ends=turn_ends)


def _columns_of(cuts: dict[int, Cut], columns: Columns) -> Columns:
    index = np.array(list(cuts), dtype=np.int64)
    changed = {name: [getattr(cut, name) for cut in cuts.values()] for name in CHANGED}
    return {"index": index, **{name: np.array(column, dtype=columns[name].dtype) for name, column in changed.items()}}


def _complaint(columns: Columns, index: int, unit: Unit, row_tokens: int) -> str:
    ((file, place),) = unit.lines([index])
    name = id_text(int(columns["id_hi"][index]), int(columns["id_lo"][index]))
    return (
        f"packing: example {name} ({unit.collection}, {file}:{place}) has {columns['tokens'][index]} tokens and a row "
        f'holds {row_tokens}; raise row_tokens, or set overlong = "drop", "drop_turns", "drop_history", "window" or '
        '"truncate"'
    )
