"""The records of a shard: where each of its examples came from, one line an example in row order.

Columns are gathered from the records of one unit after the other and then put in order, in Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.run.rows.unit_places import Places
from orca_recipes.run.rows.units import Unit
from orca_recipes.shards.ids_digest import XXH3
from orca_recipes.shards.records import (
    ALL_TURNS,
    BY_PART,
    GIVEN,
    SOMETIMES,
    TRAIN_ON,
    TRUNCATED,
    TURNS_DROPPED,
    UNTRAINED,
    WINDOW,
    records_schema,
)
from orca_recipes.shards.text_columns import WIDTH, binary_of, is_null, numbers
from orca_recipes.store.arrow_files import column_of, indices, one_piece, read_table

if TYPE_CHECKING:
    import pyarrow as pa

_AS_TOLD = ("task", "file", "strategy", "system_message", "teacher", "teacher_view")
_BY_TURN = ("turn", *SOMETIMES)
_DIGESTS = ("question_hi", "question_lo", "kept_question_hi", "kept_question_lo")


def records_of(order: pa.Table, rows: np.ndarray, units: Sequence[Unit]) -> pa.Table:
    """Gather the records of a shard's examples, in the columns of `records_schema`.

    Args:
        order: the shard's examples, in the order of its rows. rows: int64 [rows + 1] into them.
    """
    import pyarrow as pa

    told = _told(order, units)
    tokens = numbers(one_piece(order["tokens"]))
    row = np.repeat(np.arange(len(rows) - 1), np.diff(rows))
    running = np.cumsum(tokens, dtype=np.int64) - tokens
    views = told["teacher_view"]
    columns: dict[str, Any] = {
        **{name: told[name] for name in _AS_TOLD},
        **{name: order[name] for name in ("tokens", "trained_tokens", "flags")},
        "turn": told["turn"].fill_null(ALL_TURNS),
        "row": pa.array(row.astype(np.int32)),
        "place": pa.array((running - running[rows[:-1]][row]).astype(np.int32)),
        "line": told["place"],
        "collection": _collections(order, units),
        "id": _binary(order, "id"),
        "text_digest": _binary(order, "text"),
        XXH3: _binary(order, "ids"),
        "question_digest": _where_known(told, "question", told["question_hi"]),
        "kept_question_digest": _where_known(told, "kept_question", views),
    }
    known = {name for name in SOMETIMES if name in told and told[name].null_count < len(tokens)}
    if WINDOW in known:
        # No count is known of windows, and yet an answer may end in them as only one of parts does.
        known |= {name for name in BY_PART if name in told}
    columns |= {
        name: _uncut(told[name], order) if name in BY_PART else told[name] for name in SOMETIMES if name in known
    }
    schema = records_schema(also=columns)
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)


def _told(order: pa.Table, units: Sequence[Unit]) -> dict[str, pa.Array[Any]]:
    """Gather the columns that the units' records hold of the examples."""
    import pyarrow as pa

    places = Places.of(order)
    chosen = indices(places.rank)
    parts = [(read_table(units[unit].records), indices(rows)) for unit, rows in places.by_unit()]

    def column(name: str) -> pa.Array[Any]:
        held = [_column(table, name) for table, _ in parts]
        if all(part.null_count == len(part) for part in held):
            return pa.nulls(len(chosen), type=held[0].type)
        found = [part.take(rows) for part, (_, rows) in zip(held, parts, strict=True)]
        return pa.concat_arrays(found).take(chosen)

    stored = {name for table, _ in parts for name in table.column_names}
    # One column after the other: each is held twice while it is put in order.
    names = (*_AS_TOLD, *_DIGESTS, "place", *(name for name in _BY_TURN if name == "turn" or name in stored))
    return {name: column(name) for name in names}


def _uncut(counts: pa.Array[Any], order: pa.Table) -> pa.Array[Any]:
    """Return counts of tokens by part, null where packing took some of the tokens away."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cut = numbers(one_piece(order["flags"])) & (TRUNCATED | TURNS_DROPPED) != 0
    return pc.if_else(column_of(cut.view(np.int8)).cast(pa.bool_()), pa.nulls(len(cut), counts.type), counts)


def _column(table: pa.Table, name: str) -> pa.Array[Any]:
    """Take a column of a unit's records; columns of turns are null if all examples hold all turns."""
    import pyarrow as pa

    if name in _BY_TURN and name not in table.column_names:
        return pa.nulls(table.num_rows, type=pa.large_string() if name in (GIVEN, TRAIN_ON, UNTRAINED) else pa.int32())
    return one_piece(table[name])


def _collections(order: pa.Table, units: Sequence[Unit]) -> pa.Array[Any]:
    import pyarrow as pa

    names = pa.array([unit.collection for unit in units], type=pa.large_string())
    return names.take(one_piece(order["unit"]))


def _where_known(told: dict[str, pa.Array[Any]], name: str, known: pa.Array[Any]) -> pa.Array[Any]:
    """Join the two halves of a named digest if `known` is not null; else null."""
    import pyarrow as pa

    if known.null_count == len(known):
        return pa.nulls(len(known), type=pa.binary(WIDTH))
    high, low = (numbers(told[f"{name}_{half}"].fill_null(0)) for half in ("hi", "lo"))
    return binary_of(high, low, there=~is_null(known) if known.null_count else None)


def _binary(order: pa.Table, name: str) -> pa.FixedSizeBinaryArray:
    high, low = (numbers(one_piece(order[f"{name}_{half}"])) for half in ("hi", "lo"))
    return binary_of(high, low)
