"""Strict JSON, for the readers that need to know what is wrong.

The decoder keeps what the standard one hides: integers stay digits, so none is too large; keys given twice are known;
other numbers are told apart from text. The limit of nesting is our own: Python's moves with its stack, and the same row
must have the same result everywhere.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

# Python's parser calls itself for each level; deep nesting would end its stack, and no data of people nests so deep.
NESTING = 100
BAD_JSON = "bad JSON"
BAD_TEXT = "invalid UTF-8"
TOO_DEEP = f"brackets nested more than {NESTING} deep"
FRACTION = "a number with a fraction or exponent"
CONSTANT = "NaN or Infinity, which JSON does not know"
GOES_ON = "a line that goes on after its object"

# Possessive (*+), so that a string without an end fails without backtracking.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPENING = np.isin(np.arange(256), list(b"[{"))


class BadRow(Exception):
    """The reason why one row cannot be read; it ends among the rejected rows, not with the user."""


class Digits(str):
    """An integer as JSON writes it."""


@dataclass(frozen=True)
class Unlike:
    """A number that no column of ours takes.

    called: what a sentence calls it. spelling: as JSON writes it.
    """

    called: str
    spelling: str

    @property
    def is_number(self) -> bool:
        """Tell whether JSON knows such numbers: fractions and exponents, not NaN or Infinity."""
        return self.called == FRACTION


class Doubled(dict[str, Any]):
    """An object in which keys are given twice."""

    keys_twice: frozenset[str] = frozenset()
    given: Sequence[tuple[str, Any]] = ()


def decode(text: str) -> Any:
    """Decode the one JSON value that a text holds.

    Raises: BadRow.
    """
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadRow(GOES_ON if error.msg == "Extra data" else BAD_JSON) from None
    except RecursionError:
        raise BadRow(TOO_DEEP) from None


def as_json(value: Any) -> Any:
    """Convert a Python value to the types of our JSON decoder: integers as Digits, floats as Unlike."""
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return Digits(value)
    return Unlike(FRACTION if isfinite(value) else CONSTANT, repr(value)) if isinstance(value, float) else value


def once(value: Any, ours: str) -> Any:
    """Return a value that is no object in which keys are given twice.

    Raises: BadRow.
    """
    if isinstance(value, Doubled):
        raise BadRow(f"{ours}: a key given twice")
    return value


def values_given(record: Mapping[str, Any], key: str) -> list[Any]:
    """Return all values that an object gives a key, which are several where the key is given twice."""
    if isinstance(record, Doubled) and key in record.keys_twice:
        return [value for name, value in record.given if name == key]
    return [record.get(key)]


def like(record: Mapping[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Return an object made of another, with the keys known that the other gives twice."""
    if not isinstance(record, Doubled):
        return made
    doubled = Doubled(made)
    doubled.keys_twice, doubled.given = record.keys_twice, record.given
    return doubled


def nested_too_deep(text: bytes) -> bool:
    """Tell whether brackets outside of strings nest deeper than NESTING, counted without Python's stack."""
    if text.count(b"[") + text.count(b"{") <= NESTING:
        return False
    brackets = np.frombuffer(_STRINGS.sub(b"", text).translate(None, _NOT_BRACKETS), np.uint8)
    return bool(brackets.size) and int(np.cumsum(np.where(_OPENING[brackets], 1, -1)).max()) > NESTING


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    doubled = Doubled(record)
    doubled.keys_twice = frozenset(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
    doubled.given = pairs
    return doubled


DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=Digits,
    parse_float=lambda spelling: Unlike(FRACTION, spelling),
    parse_constant=lambda spelling: Unlike(CONSTANT, spelling),
)
