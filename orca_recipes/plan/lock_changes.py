"""Changes of a lock made anew, part by part: each pin and each stage, with why, and whether it can change bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orca_recipes.plan.pins import Pins, differences

_SHOWN_CHARS = 400
"""Of a value that a person reads; programs get it whole."""


@dataclass(frozen=True)
class LockChange:
    """One part of a lock that would be another. before, after: None where it has none."""

    part: str
    before: Any
    after: Any
    why: str
    changes_bytes: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        bytes_told = "can change bytes" if self.changes_bytes else "changes no byte"
        told = (self.part, f"{_shown(self.before)} -> {_shown(self.after)}", self.why)
        return f"{': '.join(map(_cut, told))} ({bytes_told})"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def lock_changes(
    before: Pins, after: Pins, outcomes: Mapping[str, Any], foreseen: Mapping[str, Any]
) -> list[LockChange]:
    """Compare a lock with what would be locked now.

    Args:
        outcomes, foreseen: "plan" (stage to fingerprint) and the verdicts "tokenizer" and "template", of both.
    """
    sentences = differences(before, after)
    found = [
        LockChange(part, old, new, _why_of_pin(part, old, new, sentences), changes_bytes=True)
        for part, old, new in _leaves("", _by_name(before.as_json()), _by_name(after.as_json()))
    ]
    for name in ("tokenizer", "template"):
        if name in outcomes and outcomes[name] != foreseen[name]:
            why = "it was tried anew and fares otherwise"
            found.append(LockChange(f"{name} verdict", outcomes[name], foreseen[name], why, changes_bytes=False))
    pinned = [change.part for change in found if change.changes_bytes]
    stages: tuple[Mapping[str, str], Mapping[str, str]] = (outcomes.get("plan", {}), foreseen["plan"])
    for name in dict.fromkeys((*stages[1], *stages[0])):
        old, new = (table.get(name) for table in stages)
        if old != new:
            found.append(LockChange(f"plan.{name}", old, new, _why_of_stage(old, new, pinned), changes_bytes=True))
    return found


def _why_of_pin(part: str, old: Any, new: Any, sentences: list[str]) -> str:
    if part.startswith("kinds."):
        if old is None or new is None:
            return "the recipe uses this kind only in one of both"
        return f"revision {new} of the kind gives other output than revision {old}"
    heads = sorted((line for line in sentences if _is_about(line, part)), key=len, reverse=True)
    return heads[0].partition(": ")[2] if heads else "it is another now"


def _is_about(sentence: str, part: str) -> bool:
    head, _, said = sentence.partition(": ")
    if not (part == head or part.startswith(f"{head}.")):
        return False
    file = part.rpartition(".files.")[2] if ".files." in part else ""
    return not file or file.rpartition(".")[0] in said or file in said


def _why_of_stage(old: str | None, new: str | None, pinned: list[str]) -> str:
    if old is None:
        return "the stage is new"
    if new is None:
        return "there is no such stage any more"
    if pinned:
        return f"it follows {', '.join(pinned[:3])}" + (f" and {len(pinned) - 3} more" if len(pinned) > 3 else "")
    return "the pins are equal: the recipe says something else, or the program's own work in this stage was revised"


def _by_name(value: Any) -> Any:
    """Return lists of files as tables by name, so that one file more is one change."""
    if isinstance(value, Mapping):
        return {key: _by_name(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return {item["name"]: {key: held for key, held in item.items() if key != "name"} for item in value}
    return value


def _leaves(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the differences of two tables; a table on one side alone is one difference."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _leaves(f"{path}.{key}" if path else key, before.get(key), after.get(key))
    elif before != after:
        yield path, before, after


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
