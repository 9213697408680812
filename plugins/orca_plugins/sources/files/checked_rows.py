"""Columns that were read become a Reading: the checks that whole columns allow, and the marks of training.

Every format comes through here, so that a row is kept or rejected for the same reason whatever file it lay in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_plugins.sources.files.chosen_rows import LEFT_OUT, chosen_rows, odd_numbers, without_choosing
from orca_plugins.sources.files.columns import LISTS, Wanted, extra_name, shown
from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT
from orca_plugins.sources.files.made_columns import made_columns, with_questions_last, with_spelt_completions
from orca_plugins.sources.files.turns.message_keys import calls_of, is_of_what_is_lost
from orca_plugins.sources.files.turns.system_tools import with_tools_of_system
from orca_plugins.sources.files.turns.turn_columns import is_answered, list_offsets
from orca_recipes.contract.frames import BESIDE_CONTENT, completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Reading
from orca_recipes.shards.layout import ROLES

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Rejections = list[tuple[int, str]]

NOT_A_MESSAGE = "messages: a message that is not an object"
NO_ROLE = "messages: a message without a role"
NO_CONTENT = "messages: a message without text content"
NOT_TRAINED = "messages: their flags leave no turn to train"


@dataclass(frozen=True)
class Table:
    """Rows as read.

    places: int64 [rows]. columns: ours to arrays [rows] of the plain types of `arrow_types`.
    rejected: place and reason of rows that did not come this far.
    faults: rows among these, by position, that cannot be used, and why.
    """

    places: np.ndarray
    columns: Mapping[str, "pa.Array"]
    rejected: Rejections
    faults: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """The last step from tables to a Reading: give rows the constant task, mark the trained messages, and choose rows
    by `wanted`."""

    task: str | None
    train_on: Literal["all", "last"]
    wanted: Wanted

    def reading(self, tables: Sequence[Table]) -> Reading:
        """Build a Reading of the tables' sound rows, with all rejections, each in order of place."""
        table = _joined(tables)
        places = table.places
        columns = with_questions_last(with_spelt_completions(table.columns, self.wanted), self.wanted)
        columns, misread = with_tools_of_system(columns, self.wanted)
        odd = odd_numbers(columns, self.wanted)
        faults = misread | _faults(columns, self.wanted) | odd
        kept, left_out = chosen_rows(columns, self.wanted, odd | _incomparable(table, faults), rows=len(places))
        if "messages" in columns:
            columns["messages"], untrained = _marked(columns["messages"], last_only=self.train_on == "last")
            faults = dict.fromkeys(untrained, NOT_TRAINED) | faults
        # A row that `where` leaves out is none of the collection, whatever else is wrong with it.
        faults = {row: why for row, why in (dict(table.faults) | faults).items() if kept[row]}
        if self.wanted.is_spare("answer") and "messages" in columns and "answer" in columns:
            columns["answer"] = _only_open(columns["answer"], columns["messages"])
        kept[list(faults)] = False
        rejected = table.rejected + [(int(places[row]), reason) for row, reason in faults.items()]
        columns = made_columns(without_choosing(columns), self.wanted)
        # Filtering copies all text, and nearly all batches keep every row.
        if faults or left_out:
            columns = {ours: _only(array, kept) for ours, array in columns.items()}
        return Reading(
            rows=self._frame(places[kept], columns),
            rejected=_rejected_frame(rejected),
            passed_over={LEFT_OUT: left_out} if left_out else {},
            not_carried=frozenset(place for place, reason in rejected if is_of_what_is_lost(reason)),
        )

    def _frame(self, places: np.ndarray, columns: Mapping[str, "pa.Array"]) -> "pl.DataFrame":
        import polars as pl
        import pyarrow as pa

        names = ["references" if ours == "reference" else ours for ours in columns]
        table = pa.table([pa.array(places), *columns.values()], names=["place", *names])
        frame = _with_extra(pl.DataFrame(pl.from_arrow(table)))
        # Only where the fast reader missed lines, which come first, are rows out of order: sorting copies all text.
        if (places[1:] < places[:-1]).any():
            frame = frame.sort("place")
        if self.task is not None:
            frame = frame.with_columns(task=pl.lit(self.task))
        return completed(frame, rows_schema())


def _with_extra(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Gather the `extra` columns in one list of (name, value) structs."""
    import polars as pl

    kept = {ours: name for ours in frame.columns if (name := extra_name(ours)) is not None}
    if not kept:
        return frame
    items = [pl.struct(name=pl.lit(name), value=pl.col(ours)) for ours, name in kept.items()]
    return frame.with_columns(extra=pl.concat_list(items)).drop(kept)


def _incomparable(table: Table, faults: Mapping[int, str]) -> dict[int, str]:
    """Select the faults that prevent a comparison by `where`: text that is not UTF-8, or a value of another sort."""
    found = {row: why for row, why in table.faults.items() if why.startswith("where: ")}
    return found | {row: why for row, why in faults.items() if why == BAD_TEXT}


def _joined(tables: Sequence[Table]) -> Table:
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    names = dict.fromkeys(ours for table in tables for ours in table.columns)
    types = {ours: array.type for table in tables for ours, array in table.columns.items()}
    columns = {ours: pa.concat_arrays([_column(table, ours, types[ours]) for table in tables]) for ours in names}
    places = np.concatenate([table.places for table in tables])
    rejected = [fault for table in tables for fault in table.rejected]
    starts = np.cumsum([0, *(len(table.places) for table in tables)]).tolist()
    numbered = [
        (row + start, why) for table, start in zip(tables, starts, strict=False) for row, why in table.faults.items()
    ]
    return Table(places=places, columns=columns, rejected=rejected, faults=dict(numbered))


def _column(table: Table, ours: str, stored: "pa.DataType") -> "pa.Array":
    """Return a table's column; where none of its rows has what others bring, nulls."""
    import pyarrow as pa

    return table.columns[ours] if ours in table.columns else pa.nulls(len(table.places), stored)


def _faults(columns: Mapping[str, "pa.Array"], wanted: Wanted) -> dict[int, str]:
    """Map rows to the first reason against each."""
    faults = {row: BAD_TEXT for array in columns.values() for row in _rows_of_invalid_text(array)}
    for ours in LISTS:
        if ours in columns:
            faults = dict.fromkeys(_rows_of_null_items(columns[ours]), f"{ours}: a list that holds null") | faults
    if "messages" in columns:
        faults = _message_faults(columns["messages"], wanted) | faults
    return faults


def _rows_of_invalid_text(array: "pa.Array", first: int = 0) -> list[int]:
    """Find rows whose text is not UTF-8 by halving: nearly always one look at the whole column."""
    import pyarrow as pa

    try:
        # Files may hold any bytes as text, and polars trusts Arrow: invalid UTF-8 would end the process far behind.
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


def _message_faults(array: "pa.Array", wanted: Wanted) -> dict[int, str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = pc.list_flatten(array)
    role, content, fault = (pc.struct_field(flat, name) for name in ("role", "content", "fault"))
    known = pc.is_in(role, pa.array(ROLES[1:], pa.large_string()))
    faults = _stray_replies(array, wanted)
    # Later ones overwrite: a message that is no object also lacks a content, and the deeper fault is the one to tell.
    faults |= dict.fromkeys(_rows_where(array, content.is_null()), NO_CONTENT)
    faults |= {row: unknown_role(named) for row, named in _first_texts(array, role, pc.invert(known)).items()}
    faults |= {row: str(told) for row, told in _first_texts(array, fault, fault.is_valid()).items()}
    faults |= dict.fromkeys(_rows_where(array, flat.is_null()), NOT_A_MESSAGE)
    return faults


def _stray_replies(array: "pa.Array", wanted: Wanted) -> dict[int, str]:
    """Find rows with a tool's reply to no earlier call, with the sentence for each."""
    import pyarrow.compute as pc

    answered = pc.struct_field(pc.list_flatten(array), "tool_call_id")
    faults: dict[int, str] = {}
    if not set(calls_of(wanted)) or answered.null_count == len(answered):
        return faults
    for row in _rows_where(array, answered.is_valid()):
        made: set[str] = set()
        try:
            # Python values only for rows with replies: few conversations have any.
            messages = array[row].as_py()
        except UnicodeDecodeError:
            continue  # refused as a whole
        for message in messages:
            if message is None:
                continue
            if message["tool_calls"] is not None:
                made |= {call["id"] for call in json.loads(message["tool_calls"]) if "id" in call}
            replied = message["tool_call_id"]
            if replied is not None and replied not in made:
                faults[row] = f'messages: a tool answers call "{shown(replied)}", which no message before it makes'
                break
    return faults


def unknown_role(role: str | None) -> str:
    """Return the reason to reject a message without a role, or with an unknown one."""
    if role is None:
        return NO_ROLE
    meant = f'roles = {{ "{shown(role)}" = "..." }} says which it is'
    return f'messages: the role "{shown(role)}" is none of {", ".join(ROLES[1:])}; {meant}'


def _first_texts(array: "pa.Array", texts: "pa.Array", which: "pa.Array") -> dict[int, str | None]:
    """Map each row of a list column with a flagged item to the text of its first flagged item."""
    import pyarrow as pa
    import pyarrow.compute as pc

    items = np.flatnonzero(which.to_numpy(zero_copy_only=False))
    if not len(items):
        return {}
    parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)[items]
    rows, first = np.unique(parents, return_index=True)
    # As bytes, since text that is not UTF-8 cannot be given out as str.
    found = texts.take(pa.array(items[first])).cast(pa.large_binary()).to_pylist()
    said = [None if text is None else text.decode(errors="replace") for text in found]
    return dict(zip(rows.tolist(), said, strict=True))


def _rows_where(array: "pa.Array", items: "pa.Array") -> list[int]:
    """List the rows of a list column with a flagged item; flags are of the flattened items."""
    import pyarrow.compute as pc

    flags = items.to_numpy(zero_copy_only=False)
    if not flags.any():
        return []
    parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    return [int(row) for row in np.unique(parents[flags])]


def _only(array: "pa.Array", kept: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    return array.filter(pa.array(kept))


def _marked(array: "pa.Array", *, last_only: bool) -> "tuple[pa.Array, list[int]]":
    """Mark the trained messages, and list the rows that end with an answer while their flags leave none to train.

    Trained are all assistant messages, or only the last one of each conversation, except where a flag says no.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = pc.list_flatten(array)
    role, content, train = (pc.struct_field(flat, name) for name in ("role", "content", "train"))
    answers = pc.equal(role, "assistant").fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    trained = answers
    if last_only:
        places = np.flatnonzero(answers)
        parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)[places]
        trained = np.zeros(len(flat), bool)
        trained[places[np.append(parents[1:] != parents[:-1], True)[: len(places)]]] = True
    untrained: list[int] = []
    if train.null_count < len(train):
        trained = trained & train.fill_null(True).to_numpy(zero_copy_only=False)
        untrained = _untrained(array, answers, trained)
    beside = {name: pc.struct_field(flat, name) for name in BESIDE_CONTENT}
    # Most files have plain messages: columns of nulls would be carried through every stage.
    held = {name: texts for name, texts in beside.items() if texts.null_count < len(flat)}
    fields = {"role": role, "content": content, "trained": pa.array(trained), **held}
    messages = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    return pa.LargeListArray.from_arrays(list_offsets(array), messages, mask=array.is_null()), untrained


def _only_open(answers: "pa.Array", messages: "pa.Array") -> "pa.Array":
    """Keep the answers of rows without messages or whose messages do not end with an answer; null the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if answers.null_count == len(answers) or messages.null_count == len(messages):
        return answers
    return pc.if_else(pa.array(is_answered(messages)), pa.scalar(None, answers.type), answers)


def _untrained(array: "pa.Array", answers: np.ndarray, trained: np.ndarray) -> list[int]:
    """List the rows that end with an answer and have no trained message."""
    offsets = list_offsets(array).to_numpy()
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    counts = np.concatenate([[0], np.cumsum(trained)])
    none = counts[offsets[filled + 1]] == counts[offsets[filled]]
    return [int(row) for row in filled[none & answers[offsets[filled + 1] - 1]]]


def _rejected_frame(rejected: Rejections) -> "pl.DataFrame":
    import polars as pl

    # By place, so that the account of rejected rows is the same whatever batch or reader found them.
    return pl.DataFrame(sorted(rejected), schema=rejected_rows_schema(), orient="row")
