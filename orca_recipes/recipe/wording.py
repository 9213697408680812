"""Wording of recipe paths and values in messages, and the paths that may hold a bare kind name."""

import re
from typing import Any

from orca_recipes.contract.spelling import quoted

# The value is there to be recognised: what to do stands behind it, and must stay on the screen.
_SHOWN = 60
_SINGLE = frozenset({"tokenizer", "template", "packing", "output", "engine"})
_NAMED = frozenset({"collections", "strategies", "teachers"})


def is_kind_place(path: tuple[str | int, ...]) -> bool:
    """Tell whether a path is the place of a kind: its table, or its bare name."""
    match path:
        case (table,):
            return table in _SINGLE
        case (table, _):
            return table in _NAMED
        case ("datasets", _, "filters", int()):
            return True
    return False


def dotted(path: tuple[str | int, ...]) -> str:
    """Write a path as in TOML: bare keys as they are, others quoted, positions of items 0-based."""
    return ".".join(_key(step) for step in path)


def described(value: Any) -> str:
    """Describe a value in a few words: `the text "ten"`, `the integer 3`, `a table`."""
    match value:
        # Before int, because a bool is an int in Python.
        case bool():
            return str(value).lower()
        case str():
            return f"the text {quoted(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + '…')}"
        case int():
            return f"the integer {value}"
        case float():
            return f"the number {value}"
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
    return "nothing"


def _key(step: str | int) -> str:
    return str(step) if isinstance(step, int) or re.fullmatch(r"[A-Za-z0-9_-]+", step) else quoted(step)
