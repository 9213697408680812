"""Values as jinja source, so that a template made here prints them unchanged."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(text: str) -> str:
    """Write a text as a jinja string, with quotes, backslashes and control characters escaped (jinja would change line
    ends).

    Other characters stay as they are: JSON would write one past U+FFFF as two escapes, which jinja does not join.
    """
    return '"' + "".join(_ESCAPED.get(character) or _plain(character) for character in text) + '"'


def literal(value: Any) -> str:
    """Write a JSON value as jinja source."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(str(key))}: {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(literal(inner) for inner in value) + "]"
    return "none" if value is None else json.dumps(value)


def _plain(character: str) -> str:
    return character if character.isprintable() or ord(character) > 0xFF else f"\\x{ord(character):02x}"
