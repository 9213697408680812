"""Values written as jinja source, so that a template that is made here prints them as they are."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(text: str) -> str:
    """A text as a jinja string: what would end it, and what jinja would change in it (line ends), is escaped.

    Other characters stand as they are: JSON's escapes of characters past U+FFFF are two that jinja does not join.
    """
    return '"' + "".join(_ESCAPED.get(character) or _plain(character) for character in text) + '"'


def literal(value: Any) -> str:
    """A JSON value as jinja source."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(str(key))}: {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(literal(inner) for inner in value) + "]"
    return "none" if value is None else json.dumps(value)


def _plain(character: str) -> str:
    return character if character.isprintable() or ord(character) > 0xFF else f"\\x{ord(character):02x}"
