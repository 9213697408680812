"""Changes between two nested tables, as TOML and JSON hold them: a path, what stood there, what stands there now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

from orca_recipes.recipe.wording import dotted
from orca_recipes.shards.digests import canonical_json

_Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Change:
    """One value that differs; before, after: None where nothing stands."""

    path: str
    before: Any
    after: Any

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "before": self.before, "after": self.after}


def value_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """List what differs between two tables, in the order of their paths.

    Tables are compared key by key, down to the smallest value that differs. Items of a list are matched by their `name`
    where all have one, else by what they hold: a path counts them as the later list does, or as the earlier one does
    where an item is gone.
    """
    return [Change(dotted(steps), old, new) for steps, old, new in _of_tables((), before, after)]


def _of_values(steps: _Steps, before: Any, after: Any) -> Iterator[tuple[_Steps, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_tables(steps, before, after)
    elif _are_tables(before) and _are_tables(after):
        named = _by_name(before), _by_name(after)
        if named[0] is not None and named[1] is not None:
            yield from _of_tables(steps, named[0], named[1])
        else:
            yield from _of_lists(steps, before, after)
    elif _differ(before, after):
        yield steps, before, after


def _differ(before: Any, after: Any) -> bool:
    """Tell two values apart, also where Python calls them equal: 1, 1.0 and True."""
    if type(before) is not type(after):
        return True
    if isinstance(before, Mapping):
        return before.keys() != after.keys() or any(_differ(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple):
        return len(before) != len(after) or any(map(_differ, before, after))
    return bool(before != after)


def _of_tables(steps: _Steps, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[_Steps, Any, Any]]:
    for key in sorted({*before, *after}):
        yield from _of_values((*steps, key), before.get(key), after.get(key))


def _of_lists(steps: _Steps, before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[_Steps, Any, Any]]:
    old_texts, new_texts = ([canonical_json(item) for item in items] for items in (before, after))
    for tag, first, last, start, stop in SequenceMatcher(None, old_texts, new_texts, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        for old, new in zip_longest(range(first, last), range(start, stop)):
            place = old if new is None else new
            yield from _of_values(
                (*steps, place), None if old is None else before[old], None if new is None else after[new]
            )


def _are_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value)


def _by_name(items: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    names = [item.get("name") for item in items]
    if not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        return None
    return {item["name"]: {key: value for key, value in item.items() if key != "name"} for item in items}
