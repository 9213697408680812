"""Numbers as people write them: signs, thousands, decimals, fractions, mixed numbers, with units behind or before."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from typing import Any

_FILE = "units.toml"
_LONGEST_DIGITS = 300
"""Longer ones are no answers, and comparing them takes long."""

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)])[-\u2212+])?(?P<before>[$\u00a3\u20ac])?\s?"
    r"(?:(?P<whole>\d+)\s+(?P<over>\d+)\s?/\s?(?P<under>[1-9]\d*)(?!\d|\.\d)"
    r"|(?P<top>\d+)\s?/\s?(?P<bottom>[1-9]\d*)(?![\d/]|\.\d)"
    r"|(?P<plain>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+))"
    r"(?:\s?(?P<percent>%)|\s?(?P<unit>[A-Za-z]+))?"
)


@dataclass(frozen=True)
class Number:
    """A number and what it is measured in: dimension "" for none that is known."""

    value: Fraction
    dimension: str = ""
    factor: Fraction = Fraction(1)

    def equals(self, other: Number) -> bool:
        """Tell whether two are equal in value, in units of one kind where both have one; where one has none, the
        numbers count."""
        if self.dimension and other.dimension:
            return self.dimension == other.dimension and self.value * self.factor == other.value * other.factor
        return self.value == other.value


def numbers_in(text: str) -> list[Number]:
    """Parse all numbers of a text, in order."""
    return [_number(match) for match in _NUMBER.finditer(text) if len(match.group()) <= _LONGEST_DIGITS]


def units_digest() -> str:
    """Digest the table of units."""
    return hashlib.blake2b(_data(), digest_size=16).hexdigest()


def _number(match: re.Match[str]) -> Number:
    part = match.groupdict()
    if part["whole"] is not None:
        value = Fraction(int(part["whole"])) + Fraction(int(part["over"]), int(part["under"]))
    elif part["top"] is not None:
        value = Fraction(int(part["top"]), int(part["bottom"]))
    else:
        value = Fraction(part["plain"].replace(",", ""))
    if part["sign"] in ("-", "\u2212"):
        value = -value
    name = "percent" if part["percent"] else "dollar" if part["before"] == "$" else part["unit"]
    dimension, factor = _unit(name or "")
    return Number(value, dimension, factor)


def _unit(name: str) -> tuple[str, Fraction]:
    units, plain = _units(), name.lower()
    for known in (plain, plain.removesuffix("s"), plain.removesuffix("es")):
        if known in units:
            return units[known]
    return "", Fraction(1)


@lru_cache(maxsize=1)
def _units() -> Mapping[str, tuple[str, Fraction]]:
    tables: dict[str, dict[str, Any]] = tomllib.loads(_data().decode())
    return {name: (kind, Fraction(factor)) for kind, names in tables.items() for name, factor in names.items()}


@lru_cache(maxsize=1)
def _data() -> bytes:
    return resources.files(__package__).joinpath(_FILE).read_bytes()
