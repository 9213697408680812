"""Rows that were read as Python values, one by one, into columns.

The way for JSON arrays and for the lines of JSON that the fast reader gives back: slow, and the one that says what is
wrong. What is checked here is what a typed column cannot hold; what it can hold (an unknown role, a null in a list) is
checked on whole columns afterwards, for all formats alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.sources._files_arrow import plain, plain_role, references_type, turn_keys, turns_type
from orca_plugins.sources._files_columns import LISTS, extra_name, routes
from orca_plugins.sources._files_json import BadRow, Digits, Doubled, Unlike
from orca_plugins.sources._files_tables import Rejections, Table

if TYPE_CHECKING:
    import pyarrow as pa

NOT_AN_OBJECT = "a row that is not an object"


@dataclass
class Rows:
    """Rows gathered one by one, and why others were rejected."""

    paths: Mapping[str, str]
    places: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    rejected: Rejections = field(default_factory=list)

    def add(self, place: int, record: Any) -> None:
        """Take in one row.

        Raises: BadRow, with nothing taken in.
        """
        if not isinstance(record, dict):
            raise BadRow(NOT_AN_OBJECT)
        values = {ours: value_of(record, ours, theirs) for ours, theirs in self.paths.items()}
        self.places.append(place)
        for ours, value in values.items():
            self.columns.setdefault(ours, []).append(value)

    def reject(self, place: int, reason: str) -> None:
        self.rejected.append((place, reason))

    def table(self) -> Table:
        """What was gathered."""
        columns = {ours: _column(ours, self.columns.get(ours, [])) for ours in self.paths}
        return Table(places=np.array(self.places, np.int64), columns=columns, rejected=self.rejected)


def value_of(record: dict[str, Any], ours: str, theirs: str) -> Any:
    """One column's value of a record: text, references or options (a list of texts) or messages.

    Raises: BadRow.
    """
    value = found_value(record, ours, theirs)
    if value is None:
        return None
    if ours == "messages":
        return _messages(value)
    if ours not in LISTS:
        return _text(extra_name(ours) or ours, value)
    return [_item(ours, item) for item in value] if isinstance(value, list) else [_text(ours, value)]


def found_value(record: dict[str, Any], ours: str, theirs: str) -> Any:
    """A column's value as it stands, by the first route on which there is one.

    Raises: BadRow.
    """
    for route in routes(theirs):
        current: Any = record
        for depth, key in enumerate(route):
            if not isinstance(current, dict):
                raise BadRow(f"{ours}: {'.'.join(route[:depth])} is not an object")
            current = _get(current, ours, key)
            if current is None:
                break
        if current is not None:
            return current
    return None


def has_column(record: dict[str, Any], theirs: str) -> bool:
    """Whether a record has a column, be it null."""
    for route in routes(theirs):
        current: Any = record
        for key in route:
            if not isinstance(current, dict) or key not in current:
                break
            current = current[key]
        else:
            return True
    return False


def names_in(record: dict[str, Any]) -> list[str]:
    """The columns of a record, those inside of objects with dotted names."""
    inner = [f"{key}.{below}" for key, value in record.items() if isinstance(value, dict) for below in value]
    return [*record, *inner]


def _get(record: dict[str, Any], ours: str, key: str) -> Any:
    if isinstance(record, Doubled) and key in record.keys_twice:
        raise BadRow(f"{ours}: a key given twice")
    return record.get(key)


def _text(ours: str, value: Any) -> str:
    if isinstance(value, Digits):
        return "0" if value == "-0" else str(value)
    if not isinstance(value, str):
        raise BadRow(f"{ours}: {_called(value)}" + ("" if isinstance(value, Unlike) else " where text should be"))
    return _sound(ours, value)


def _item(ours: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else _text(ours, value)
    raise BadRow(f"{ours}: a list that holds {_called(value)}")


def _messages(value: Any) -> list[dict[str, str | None] | None]:
    if not isinstance(value, list):
        raise BadRow(f"messages: {_called(value)} where a list should be")
    return [_message(message) for message in value]


def _message(value: Any) -> dict[str, str | None] | None:
    """A message; what is missing or no text is null, which the table's own check finds."""
    if not isinstance(value, dict):
        return None
    role, content = (_plain(_get(value, "messages", key)) for key in turn_keys(value))
    return {"role": plain_role(role) if "role" not in value else role, "content": content}


def _plain(value: Any) -> str | None:
    return _sound("messages", value) if isinstance(value, str) and not isinstance(value, Digits) else None


def _sound(ours: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{ours}: half of a surrogate pair") from None
    return text


def _called(value: Any) -> str:
    if isinstance(value, Unlike):
        return value.value
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Digits):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _column(ours: str, values: list[Any]) -> "pa.Array":
    import pyarrow as pa

    types = {**dict.fromkeys(LISTS, references_type), "messages": turns_type}
    return plain(ours, pa.array(values, types[ours]() if ours in types else pa.large_string()))
