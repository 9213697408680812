"""Columns that a recipe names and no row of a collection has: a misspelt one must not be nothing in silence.

Files that declare their columns are refused by their source; lines of JSON may each have other keys, so that only all
rows together tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orca_recipes.contract.conditions import EXTRA
from orca_recipes.contract.source import PART
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

_STORED = {"reference": "references"}
"""Columns of rows that are stored under another name than recipes give them."""


def refuse_unfound(
    tables: Sequence[pa.Table], unfound: Mapping[str, str], unused: Sequence[str], *, collection: str
) -> None:
    """Refuse a collection that is told to read a column which none of its rows has.

    Args:
        unfound: ours to theirs, of the columns that first rows lack. unused: those that files have and nothing reads.
        collection: its name, which is the task of rows that have none.
    Raises: SourceError.
    """
    if not sum(table.num_rows for table in tables):
        return
    for ours, theirs in unfound.items():
        if not any(_has(table, ours, collection) for table in tables):
            purpose = "extra" if ours.startswith(EXTRA) else ours.removeprefix(PART).partition(".")[0]
            raise SourceError(f"no row has a column {quoted(theirs)} for {purpose}{hint(theirs, unused)}")


def _has(table: pa.Table, ours: str, collection: str) -> bool:
    """Tell whether some row has a value of one of our columns, or of one kept in `extra`."""
    import pyarrow.compute as pc

    name = "extra" if ours.startswith(EXTRA) else _STORED.get(ours, ours)
    if name not in table.column_names or table[name].null_count == table.num_rows:
        return False
    if name == "task":
        return not bool(pc.all(pc.equal(table[name], collection)).as_py())
    if name != "extra":
        return True
    kept = pc.list_flatten(table[name])
    named = pc.equal(pc.struct_field(kept, "name"), ours.removeprefix(EXTRA))
    return bool(pc.any(pc.and_(named, pc.struct_field(kept, "value").is_valid())).as_py())
