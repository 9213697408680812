"""Rows that were read as Python values, one by one, into columns.

The way for JSON arrays and for the lines of JSON that the fast reader gives back: slow, and the one that says what is
wrong. What is checked here is what a typed column cannot hold; what it can hold (an unknown role, a null in a list) is
checked on whole columns afterwards, for all formats alike.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.sources.files.arrow_types import column_type, plain
from orca_plugins.sources.files.checked_rows import Rejections, Table
from orca_plugins.sources.files.chosen_rows import by_messages, where_value
from orca_plugins.sources.files.columns import (
    LISTS,
    Wanted,
    asking_columns,
    require_choosing,
    require_rows,
    routes,
    said_column,
)
from orca_plugins.sources.files.json_rows.strict_json import BadRow, Digits, Unlike, values_given
from orca_plugins.sources.files.made_columns import asked, with_completion
from orca_plugins.sources.files.turns.message_keys import (
    ASSISTANT,
    carried_of,
    given_twice,
    holders,
    holds,
    lost_of_row,
    watched,
)
from orca_plugins.sources.files.turns.spelt_messages import is_spelt, turns_spelt
from orca_plugins.sources.files.turns.tool_values import beside_text
from orca_plugins.sources.files.turns.turn_values import sound, turn_of, value_under
from orca_recipes.contract.frames import BESIDE_MESSAGES

if TYPE_CHECKING:
    import pyarrow as pa

NOT_AN_OBJECT = "a row that is not an object"


@dataclass
class Rows:
    """Rows gathered one by one, and why others were rejected."""

    wanted: Wanted
    places: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    rejected: Rejections = field(default_factory=list)

    def add(self, place: int, record: Any) -> None:
        """Take in one row.

        Raises: BadRow, with nothing taken in.
        """
        if not isinstance(record, dict):
            raise BadRow(NOT_AN_OBJECT)
        values, fault = self._values(record)
        if fault is not None:
            self.faults[len(self.places)] = fault
        lost = _lost_columns(record, self.wanted, with_messages=values.get("messages") is not None)
        if lost:
            self.faults.setdefault(len(self.places), lost_of_row(lost, self.wanted))
        try:
            beside = _beside(record, self.wanted, with_messages=values.get("messages") is not None)
        except BadRow as reason:
            beside = dict.fromkeys(BESIDE_MESSAGES)
            self.faults.setdefault(len(self.places), str(reason))
        self.places.append(place)
        values = {"messages": None} | values | beside
        for ours, value in values.items():
            self.columns.setdefault(ours, []).append(value)

    def _values(self, record: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Read a record's values, with no fault; where it cannot be used but `where` may leave it out, only the values
        compared there, and the fault.

        Raises: BadRow.
        """
        paths = self.wanted.paths
        chosen_by = {ours: value_of(record, ours, paths[ours], self.wanted) for ours in self.wanted.sorts}
        try:
            read = {ours: theirs for ours, theirs in paths.items() if ours not in BESIDE_MESSAGES}
            values = {ours: self._value(record, ours, theirs) for ours, theirs in read.items()}
            return _completed(values, self.wanted), None
        except BadRow as reason:
            if not chosen_by or by_messages(self.wanted):
                raise
            return dict.fromkeys(paths) | chosen_by, str(reason)

    def _value(self, record: dict[str, Any], ours: str, theirs: str) -> Any:
        """Read one column's value; None if it is unreadable, nobody named it, and the row can do without.

        Raises: BadRow.
        """
        try:
            return value_of(record, ours, theirs, self.wanted)
        except BadRow:
            if self.wanted.is_spare(ours) and _is_answered(record, self.wanted):
                return None
            raise

    def reject(self, place: int, reason: str) -> None:
        self.rejected.append((place, reason))

    def table(self) -> Table:
        """Build a table of the rows gathered."""
        filled = [ours for ours in BESIDE_MESSAGES if any(self.columns.get(ours, ()))]
        filled += ["messages"] if any(talk is not None for talk in self.columns.get("messages", ())) else []
        names = dict.fromkeys([*self.wanted.paths, *filled])
        columns = {ours: _column(ours, self.columns.get(ours, []), self.wanted) for ours in names}
        places = np.array(self.places, np.int64)
        return Table(places=places, columns=columns, rejected=self.rejected, faults=self.faults)


def value_of(record: dict[str, Any], ours: str, theirs: str, wanted: Wanted) -> Any:
    """Read one column of a record: text, references or options (a list of texts), or messages.

    Raises: BadRow.
    """
    value = found_value(record, ours, theirs)
    if ours in wanted.sorts:
        return where_value(theirs, wanted.sorts[ours], value)
    if value is None:
        return None
    if ours == "messages" and wanted.asks_last and not holds(value):
        return None
    if ours == "messages" or (ours == "answer" and _is_completion(value, wanted)):
        return _messages(value, wanted)
    if ours not in LISTS:
        return _text(said_column(ours, theirs), value)
    return [_item(ours, item) for item in value] if isinstance(value, list) else [_text(ours, value)]


def found_value(record: dict[str, Any], ours: str, theirs: str) -> Any:
    """Find a column's raw value, on the first route that leads to one; else None.

    Raises: BadRow.
    """
    said = said_column(ours, theirs)
    for route in routes(theirs):
        current: Any = record
        for depth, key in enumerate(route):
            if isinstance(current, list) and key.isdecimal():
                current = current[int(key)] if int(key) < len(current) else None
            elif not isinstance(current, dict):
                raise BadRow(f"{said}: {'.'.join(route[:depth])} is not an object")
            else:
                current = value_under(current, said, key)
            if current is None:
                break
        if current is not None:
            return current
    return None


def has_column(record: dict[str, Any], theirs: str) -> bool:
    """Tell whether a record has a column, even a null one."""
    for route in routes(theirs):
        current: Any = record
        for key in route:
            if isinstance(current, list) and key.isdecimal() and int(key) < len(current):
                current = current[int(key)]
                continue
            if not isinstance(current, dict) or key not in current:
                break
            current = current[key]
        else:
            return True
    return False


def look_at_head(where: str, records: Iterable[dict[str, Any]], wanted: Wanted) -> None:
    """Refuse a file whose first rows have neither questions nor messages under the names asked for, or lack a column of
    `where`.

    Raises: SourceError.
    """
    names: dict[str, None] = {}
    sought = asking_columns(wanted)
    choosing = {wanted.paths[ours] for ours in wanted.sorts}
    for record in records:
        sought = [] if any(has_column(record, path) for path in sought) else sought
        choosing = {path for path in choosing if not has_column(record, path)}
        if not sought and not choosing:
            return
        names |= dict.fromkeys(names_in(record))
    if names and sought:
        require_rows(file=where, wanted=wanted, names=list(names))
    if names:
        require_choosing(file=where, missing=sorted(choosing), names=list(names))


def names_in(record: dict[str, Any]) -> list[str]:
    """List the columns of a record; fields of its objects have dotted names."""
    inner = [f"{key}.{below}" for key, value in record.items() if isinstance(value, dict) for below in value]
    return [*record, *inner]


def _is_answered(record: dict[str, Any], wanted: Wanted) -> bool:
    """Tell whether a record's conversation ends with an answer."""
    talk = found_value(record, "messages", wanted.paths["messages"]) if "messages" in wanted.paths else None
    last = talk[-1] if isinstance(talk, list) and talk else None
    turn = turn_of(last, wanted)
    return turn is not None and turn["role"] == "assistant"


def _lost_columns(record: dict[str, Any], wanted: Wanted, *, with_messages: bool) -> list[str]:
    """List the columns that the row must leave empty and does not."""
    carried = {name for names in carried_of(wanted).values() for name in names}
    names = [name for name in watched(wanted, with_messages=with_messages) if name not in carried]
    lost: list[str] = []
    for route in holders(wanted):
        holder: Any = record
        for key in route:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            lost += [".".join([*route, name]) for name in names if any(map(holds, values_given(holder, name)))]
    return lost


def _beside(record: dict[str, Any], wanted: Wanted, *, with_messages: bool) -> dict[str, str | None]:
    """Read what the row brings beside its messages, as texts.

    Raises: BadRow.
    """
    found: dict[str, str | None] = dict.fromkeys(BESIDE_MESSAGES)
    values = [(ours, found_value(record, ours, wanted.paths[ours])) for ours in found if ours in wanted.paths]
    carried = {ours: names for ours, names in carried_of(wanted).items() if with_messages or ours == "tools"}
    for holder in _held_by(record, wanted):
        values += [(ours, value_under(holder, ours, name)) for ours, names in carried.items() for name in names]
    for ours, value in values:
        text = beside_text(ours, value)
        if text is not None and found[ours] not in (None, text):
            raise BadRow(given_twice(ours))
        found[ours] = found[ours] or text
    return found


def _held_by(record: dict[str, Any], wanted: Wanted) -> Iterable[dict[str, Any]]:
    """Yield the objects in which columns beside messages are looked for."""
    for route in holders(wanted):
        holder: Any = record
        for key in route:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            yield holder


def _text(ours: str, value: Any) -> str:
    if isinstance(value, Digits):
        # Integers of typed columns have no -0, and a row must be the same in every format.
        return "0" if value == "-0" else str(value)
    if isinstance(value, Unlike) and value.is_number and ours in ("answer", "reference"):
        return _fraction(ours, value)
    if not isinstance(value, str):
        raise BadRow(f"{ours}: {_called(value)}" + ("" if isinstance(value, Unlike) else " where text should be"))
    return sound(ours, value)


def _fraction(ours: str, value: Unlike) -> str:
    """Write a fraction as the shortest text of the same 64-bit float, as a typed column gives it."""
    number = float(value.spelling)
    if not math.isfinite(number):
        raise BadRow(f"{ours}: a number that is too large")
    return repr(number)


def _completed(values: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Complete a row's values: an answer that is a list of messages becomes the end of its conversation."""
    answer = values.get("answer")
    if not isinstance(answer, list):
        return values
    question = values.get("question")
    before = values.get("messages")
    if wanted.is_spare("answer") and before and before[-1] is not None and before[-1]["role"] == ASSISTANT:
        return {**values, "answer": None}
    if before is None and question is not None:
        before, values = [asked(question)], {**values, "question": None}
    return {**values, "answer": None, "messages": with_completion(before, answer, wanted)}


def _is_completion(value: Any, wanted: Wanted) -> bool:
    """Tell whether an answer is a list of messages."""
    if not (wanted.takes_completions and isinstance(value, list)):
        return False
    # An empty list is no conversation; where the recipe names the column, its type says so.
    return all(isinstance(one, dict | None) for one in value) and (bool(value) or "answer" in wanted.named)


def _item(ours: str, value: Any) -> str | None:
    if isinstance(value, Unlike) and value.is_number and ours == "reference":
        return _fraction(ours, value)
    if value is None or isinstance(value, str):
        return None if value is None else _text(ours, value)
    raise BadRow(f"{ours}: a list that holds {_called(value)}")


def _messages(value: Any, wanted: Wanted) -> list[dict[str, Any] | None]:
    if is_spelt(value) or wanted.rewrites_messages:
        return turns_spelt(value, wanted)
    if not isinstance(value, list):
        raise BadRow(f"messages: {_called(value)} where a list should be")
    return [turn_of(message, wanted) for message in value]


def _called(value: Any) -> str:
    if isinstance(value, Unlike):
        return value.called
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Digits):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _column(ours: str, values: list[Any], wanted: Wanted) -> "pa.Array":
    import pyarrow as pa

    stored = column_type(ours, wanted)
    array = pa.array(values, pa.large_string() if stored is None else stored)
    return array if ours in ("messages", *BESIDE_MESSAGES) or ours in wanted.sorts else plain(ours, array, wanted)
