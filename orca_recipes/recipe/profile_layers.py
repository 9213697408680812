"""A recipe's layers laid over each other: what it extends, the file, one profile, each `--set`.

Every value keeps the origin that it was last written at, so that a fault points to the line of the profile or to the
`--set` that caused it, not to the line that was overridden. The lines of a file are looked for when first asked for: a
sound recipe of thousands of collections needs none.
"""

import copy
import datetime
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orca_recipes.contract.spelling import quoted
from orca_recipes.recipe.toml_lines import Path
from orca_recipes.recipe.wording import described, dotted, is_kind_place

# The grammar is a dozen tables deep at most; endless keys would end in Python's limit of recursion.
_DEEPEST = 40
# TOML promises 64 bits and tomllib reads any number: a longer one would fail far behind, in an array of int64.
_BITS = 63
# No list is so long, and int() raises for texts of over 4,300 digits.
_DIGITS = 10


@dataclass(frozen=True)
class Origin:
    """A file and a 1-based line, or a `--set` and line 0."""

    file: str
    line: int


class UnfitOverride(Exception):
    """A `--set` or a profile that cannot be laid over the recipe; the text says why."""


@dataclass
class Layers:
    """The merged tables and where each value of them was written.

    find_origins: gives the origin of each value as the table was read. fillings: paths that were filled in, each with
    the path that asked for it.
    """

    table: dict[str, Any]
    find_origins: Callable[[], dict[Path, Origin]] = field(default=dict, compare=False, repr=False)
    fillings: Mapping[Path, Path] = field(default_factory=dict)

    @cached_property
    def origins(self) -> dict[Path, Origin]:
        """Return the origin of each value, to be kept up to date by whoever lays something over the table."""
        return self.find_origins()

    def origin(self, path: Path) -> Origin:
        """Find the origin of a path; if the path itself was not written, that of the nearest table around it."""
        for end in range(len(path), 0, -1):
            spot = path[:end]
            if spot in self.fillings:
                return self.origin(self.fillings[spot])
            if spot in self.origins:
                return self.origins[spot]
        return _NOWHERE

    def lay(self, over: "Layers") -> None:
        """Merge another recipe's tables deep into these. Tables join, everything else (arrays too) is replaced."""
        self._lay(over.table, over.origins)

    def lay_profile(self, name: str | None) -> None:
        """Merge `[profiles.NAME]` deep into the recipe, where one is chosen, and take the profiles away.

        Tables join, everything else (arrays too) is replaced.
        """
        profile = self.table.pop("profiles", {}).get(name, {})
        if not profile:
            return
        places = {path[2:]: origin for path, origin in self.origins.items() if path[:2] == ("profiles", name)}
        self._lay(profile, places)

    def lay_override(self, assignment: str) -> None:
        """Set one value: `path.to.key=value`, where array items are reached by 0-based position.

        Raises: UnfitOverride.
        """
        if not _is_unicode(assignment):
            raise UnfitOverride("is not valid UTF-8")
        keys, value = parse_override(assignment)
        if keys[0] == "profiles":
            raise UnfitOverride("the profile is merged before --set; set the option itself")
        here: Any = self.table
        path: Path = ()
        for key in keys[:-1]:
            here, path = self._entered(here, path, key)
        if isinstance(here, list):
            place = _position(here, path, keys[-1])
            here[place] = value
            path = (*path, place)
        else:
            here[keys[-1]] = value
            path = (*path, keys[-1])
        self._forget({path})
        self.origins[path] = Origin(f"--set {assignment}", 0)

    def _entered(self, here: Any, path: Path, key: str) -> tuple[Any, Path]:
        """Enter the table or array at a key: create it if it is absent, and turn a bare kind name into a table."""
        step: str | int = _position(here, path, key) if isinstance(here, list) else key
        inner = (*path, step)
        if isinstance(here, dict) and key not in here:
            here[key] = {}
        elif isinstance(here[step], str) and is_kind_place(inner):
            here[step] = {"kind": here[step]}
        if not isinstance(here[step], dict | list):
            raise UnfitOverride(f"{dotted(inner)} is {described(here[step])}, and no table")
        return here[step], inner

    def _lay(self, over: dict[str, Any], places: dict[Path, Origin]) -> None:
        replaced: set[Path] = set()
        self._merge(self.table, over, (), replaced)
        self._forget(replaced)
        self.origins |= {spot: origin for spot, origin in places.items() if _is_within(spot, replaced)}

    def _merge(self, base: dict[str, Any], over: dict[str, Any], path: Path, replaced: set[Path]) -> None:
        """Lay one table over another; adds the paths of all values that are put in place of what was there."""
        for key, value in over.items():
            inner = (*path, key)
            plain = inner[2:] if inner[0] == "profiles" else inner
            if isinstance(value, dict) and isinstance(base.get(key), str) and is_kind_place(plain):
                base[key] = {"kind": base[key]}
            if isinstance(value, dict) and _can_take(base.get(key), value):
                self._merge(base[key], value, inner, replaced)
            else:
                base[key] = value
                replaced.add(inner)

    def _forget(self, replaced: set[Path]) -> None:
        for spot in [spot for spot in self.origins if _is_within(spot, replaced)]:
            del self.origins[spot]


def _is_within(spot: Path, paths: set[Path]) -> bool:
    """Tell whether a path, or one around it, is in `paths`."""
    return any(spot[:end] in paths for end in range(1, len(spot) + 1))


def _can_take(base: Any, over: dict[str, Any]) -> bool:
    """Tell whether a table can be merged into the present value: only into a table, and not if it names another kind,
    which has other options."""
    return isinstance(base, dict) and not ("kind" in base and over.get("kind", base["kind"]) != base["kind"])


_NOWHERE = Origin("", 0)


def parse_override(assignment: str) -> tuple[list[str], Any]:
    """Split `path.to.key=value` into keys and value; keys may be quoted, and a value that is no TOML is a text.

    Raises: UnfitOverride where there is no key.
    """
    for end, char in enumerate(assignment):
        # A quoted key may hold "=": the first one that leaves whole keys before it parts the two.
        keys = _keys(assignment[:end]) if char == "=" else None
        if keys:
            return keys, _value(assignment[end + 1 :])
    raise UnfitOverride("write it as --set path.to.key=value")


def unfit_values(table: dict[str, Any]) -> list[tuple[Path, str]]:
    """List the values that TOML can write but no recipe can hold, each with a sentence, and replace them by "" in
    place.

    A fingerprint is made of what JSON can write exactly: no dates, no nan, no integers beyond 64 bits, nothing nested
    so deep that a reader gives up.
    """
    faults: list[tuple[Path, str]] = []
    open_values: list[tuple[Path, Any]] = [((), table)]
    while open_values:
        path, value = open_values.pop()
        pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for key, inner in pairs:
            spot = (*path, key)
            sentence = "is nested too deep" if len(spot) > _DEEPEST else _unfit(inner)
            if sentence is not None:
                faults.append((spot, sentence))
                value[key] = ""
            elif isinstance(inner, dict | list):
                open_values.append((spot, inner))
    return faults


def _unfit(value: Any) -> str | None:
    if isinstance(value, datetime.date | datetime.time):
        return "is a date or time, and no option takes one; write it as a text, in quotes"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, and no option takes that; write a number"
    if isinstance(value, int) and abs(value) >> _BITS:
        return "is an integer beyond 64 bits; write a smaller one"
    return None


def _is_unicode(text: str) -> bool:
    """Tell whether a command-line text was valid UTF-8: Python keeps undecodable bytes as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _keys(text: str) -> list[str] | None:
    # A line break would let an override write further lines of TOML.
    if "\n" in text:
        return None
    try:
        # tomllib itself splits the keys, so that quotes mean the same as in a file.
        node: Any = tomllib.loads(f"{text} = 0")
    except (ValueError, RecursionError):
        return None
    keys: list[str] = []
    while isinstance(node, dict) and node:
        key, node = next(iter(node.items()))
        keys.append(key)
    return keys


def _value(text: str) -> Any:
    try:
        # tomllib itself reads the value, so that it means the same as in a file.
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # `unfit_values` replaces what it finds in place.
    held = copy.deepcopy(table)
    # A value with a line break may define further keys: it is a text then.
    return text if set(table) != {"value"} or unfit_values(held) else table["value"]


def _position(items: list[Any], path: Path, key: str) -> int:
    if key.isdecimal() and len(key) < _DIGITS and int(key) < len(items):
        return int(key)
    held = f"0 to {len(items) - 1}" if items else "none"
    raise UnfitOverride(f"{dotted(path)} is a list, whose items are called by position ({held}), not {quoted(key)}")
