"""Provenance of the examples in rows, in a sentence that a person can act on.

Training never reads the records; this does, when something went wrong with a row, and says so where another build took
the place of the one that is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca_recipes.counted import counted
from orca_recipes.errors import OrcaError
from orca_recipes.shards.layout import records_path
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.records import read_records, readable
from orca_recipes.shards.show.visible import visible
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.data.rows import Rows

_NAMED_ROWS = 4
_NAMED_EXAMPLES = 6


def describe(rows: Rows, places: Sequence[RowPlace]) -> str:
    """Describe the shard and row of each place, and of its examples collection, file and line.

    Raises: DamagedShard where the records cannot be read.
    """
    told = [_row(rows, place) for place in places[:_NAMED_ROWS]]
    if len(places) > _NAMED_ROWS:
        told.append(f"and {counted(len(places) - _NAMED_ROWS, 'row')} more")
    return "; ".join(told)


def _row(rows: Rows, place: RowPlace) -> str:
    import pyarrow.compute as pc

    prefix, row = rows.locate(place)
    if not _is_still_there(rows):
        return f"row {row} of {prefix} (of what it was made is not known: its build was replaced or removed since)"
    records, faults = read_records(records_path(rows.directory / prefix))
    if records is None:
        return f"row {row} of {prefix} (its records cannot be read: {faults[0]})"
    examples = readable(records.table.filter(pc.equal(records.table["row"], row))).to_pylist()
    named = ", ".join(_example(example) for example in examples[:_NAMED_EXAMPLES])
    more = f" and {len(examples) - _NAMED_EXAMPLES} more" if len(examples) > _NAMED_EXAMPLES else ""
    return f"row {row} of {prefix}, made of {named}{more}"


def _is_still_there(rows: Rows) -> bool:
    try:
        return read_manifest(rows.directory).digest == rows.manifest.digest
    except OrcaError:
        return False


def _example(record: dict[str, object]) -> str:
    file, line = record["file"], record["line"]
    place = f"{Path(str(file)).as_posix()}:{line}" if file is not None else f"generated {record['id']}"
    return visible(f"{record['collection']} {place}")
