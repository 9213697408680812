"""Columns that were read become a Reading: the checks that whole columns allow, and the marks of training.

Every format comes through here, so that a row is kept or rejected for the same reason whatever file it lay in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_plugins.sources._files_arrow import list_offsets
from orca_plugins.sources._files_columns import LISTS, extra_name
from orca_plugins.sources._files_json import BAD_TEXT
from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Reading
from orca_recipes.shards.layout import ROLES

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Rejections = list[tuple[int, str]]

NOT_A_MESSAGE = "messages: a message that is not an object"
UNKNOWN_ROLE = "messages: a role other than system, user, assistant or tool"
NO_CONTENT = "messages: a message without text content"


@dataclass(frozen=True)
class Table:
    """Rows as read.

    places: int64 [rows]. columns: ours to arrays [rows] of the plain types of `_files_arrow`.
    rejected: place and reason of rows that did not come this far.
    """

    places: np.ndarray
    columns: Mapping[str, "pa.Array"]
    rejected: Rejections


@dataclass(frozen=True)
class Finish:
    """What every row is given: the recipe's constant task, and which assistant messages are trained."""

    task: str | None
    train_on: Literal["all", "last"]

    def reading(self, tables: Sequence[Table]) -> Reading:
        """The tables' rows that are sound, and all rejections, each in order of place."""
        table = _joined(tables)
        places, columns = table.places, dict(table.columns)
        faults = _faults(columns)
        kept = np.ones(len(places), bool)
        kept[list(faults)] = False
        rejected = table.rejected + [(int(places[row]), reason) for row, reason in faults.items()]
        if faults:
            columns = {ours: _only(array, kept) for ours, array in columns.items()}
        if "messages" in columns:
            columns["messages"] = _marked(columns["messages"], last_only=self.train_on == "last")
        return Reading(rows=self._frame(places[kept], columns), rejected=_rejected_frame(rejected))

    def _frame(self, places: np.ndarray, columns: Mapping[str, "pa.Array"]) -> "pl.DataFrame":
        import polars as pl
        import pyarrow as pa

        names = ["references" if ours == "reference" else ours for ours in columns]
        table = pa.table([pa.array(places), *columns.values()], names=["place", *names])
        frame = _with_extra(pl.DataFrame(pl.from_arrow(table)))
        if self.task is not None:
            frame = frame.with_columns(task=pl.lit(self.task))
        return completed(frame, rows_schema())


def _with_extra(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The columns that are kept as they are, gathered in one."""
    import polars as pl

    kept = {ours: name for ours in frame.columns if (name := extra_name(ours)) is not None}
    if not kept:
        return frame
    items = [pl.struct(name=pl.lit(name), value=pl.col(ours)) for ours, name in kept.items()]
    return frame.with_columns(extra=pl.concat_list(items)).drop(kept)


def _joined(tables: Sequence[Table]) -> Table:
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    columns = {ours: pa.concat_arrays([table.columns[ours] for table in tables]) for ours in tables[0].columns}
    places = np.concatenate([table.places for table in tables])
    return Table(places=places, columns=columns, rejected=[fault for table in tables for fault in table.rejected])


def _faults(columns: Mapping[str, "pa.Array"]) -> dict[int, str]:
    """Row to the first reason against it."""
    faults = {row: BAD_TEXT for array in columns.values() for row in _rows_of_invalid_text(array)}
    for ours in LISTS:
        if ours in columns:
            faults = dict.fromkeys(_rows_of_null_items(columns[ours]), f"{ours}: a list that holds null") | faults
    if "messages" in columns:
        faults = _message_faults(columns["messages"]) | faults
    return faults


def _rows_of_invalid_text(array: "pa.Array", first: int = 0) -> list[int]:
    """Rows whose text is not UTF-8, by halving: nearly always one look at the whole column."""
    import pyarrow as pa

    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        if len(array) == 1:
            return [first]
        middle = len(array) // 2
        halves = ((first, np.arange(middle)), (first + middle, np.arange(middle, len(array))))
        return [row for start, rows in halves for row in _rows_of_invalid_text(array.take(pa.array(rows)), start)]
    return []


def _rows_of_null_items(array: "pa.Array") -> list[int]:
    import pyarrow.compute as pc

    items = pc.list_flatten(array)
    if not items.null_count:
        return []
    return _rows_where(array, items.is_null())


def _message_faults(array: "pa.Array") -> dict[int, str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = pc.list_flatten(array)
    role, content = pc.struct_field(flat, "role"), pc.struct_field(flat, "content")
    known = pc.is_in(role, pa.array(ROLES[1:], pa.large_string()))
    faults = dict.fromkeys(_rows_where(array, content.is_null()), NO_CONTENT)
    faults |= dict.fromkeys(_rows_where(array, pc.invert(known)), UNKNOWN_ROLE)
    faults |= dict.fromkeys(_rows_where(array, flat.is_null()), NOT_A_MESSAGE)
    return faults


def _rows_where(array: "pa.Array", items: "pa.Array") -> list[int]:
    """The rows of a list column in which a flag of its flattened items is set."""
    import pyarrow.compute as pc

    flags = items.to_numpy(zero_copy_only=False)
    if not flags.any():
        return []
    parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    return [int(row) for row in np.unique(parents[flags])]


def _only(array: "pa.Array", kept: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    return array.filter(pa.array(kept))


def _marked(array: "pa.Array", *, last_only: bool) -> "pa.Array":
    """The messages with `trained`: assistant messages, or the last one of each conversation."""
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = pc.list_flatten(array)
    role, content = pc.struct_field(flat, "role"), pc.struct_field(flat, "content")
    trained = pc.equal(role, "assistant").to_numpy(zero_copy_only=False).astype(bool)
    if last_only:
        answers = np.flatnonzero(trained)
        parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)[answers]
        trained = np.zeros(len(flat), bool)
        trained[answers[np.append(parents[1:] != parents[:-1], True)[: len(answers)]]] = True
    messages = pa.StructArray.from_arrays([role, content, pa.array(trained)], ["role", "content", "trained"])
    return pa.LargeListArray.from_arrays(list_offsets(array), messages, mask=array.is_null())


def _rejected_frame(rejected: Rejections) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(sorted(rejected), schema=rejected_rows_schema(), orient="row")
