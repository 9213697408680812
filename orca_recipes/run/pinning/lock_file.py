"""The lock beside a recipe: `[pins]`, which feed the plan, and `[outcomes]`, which --locked checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from orca_recipes.contract.toml_text import toml_table
from orca_recipes.errors import LockError
from orca_recipes.plan.pins import Pins, pins_from_json
from orca_recipes.store.disk_faults import writing
from orca_recipes.store.sealed import write_text

VERSION = 1

_TABLES = ("plan", "shards", "answers")
"""Outcomes that are tables."""


@dataclass(frozen=True)
class Lock:
    """A lock; outcomes are by name: "tokenizer" and "template" (verdicts), "plan", "manifest", "contents" (of a
    manifest, beside the recipe's words), "data", "shards" and "answers" (digests)."""

    pins: Pins
    outcomes: Mapping[str, Any] = field(default_factory=dict)


def lock_path(recipe: Path, profile: str | None) -> Path:
    """Name `<stem>.lock`, or `<stem>.<profile>.lock`."""
    return recipe.with_name(f"{recipe.stem}.{profile}.lock" if profile else f"{recipe.stem}.lock")


def read_lock(path: Path) -> Lock | None:
    """Read the lock at a path; None if there is none. Raises: LockError if it cannot be read."""
    try:
        table = toml_table(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise LockError(
            f"{path}: it cannot be read as a lock ({error}); remove it and run `orca-recipe lock`"
        ) from error
    try:
        if table["version"] != VERSION:
            raise LockError(
                f"{path}: it has version {table['version']}, and this program reads version {VERSION}; "
                "run `orca-recipe lock` to write it anew"
            )
        return Lock(pins_from_json(table["pins"]), _outcomes(table.get("outcomes", {})))
    except (KeyError, TypeError, AttributeError) as error:
        raise LockError(f"{path}: it lacks {error}; remove it and run `orca-recipe lock`") from error


def outcomes_of(path: Path) -> Mapping[str, Any]:
    """Read what a lock says came out. Raises: LockError where there is no lock."""
    lock = read_lock(path)
    if lock is None:
        raise LockError(f"{path}: there is no such lock; `orca-recipe lock RECIPE` writes one")
    return lock.outcomes


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock aside and rename it. Raises: Failure where it cannot be written."""
    table = {"version": VERSION, "pins": lock.pins.as_json(), "outcomes": dict(lock.outcomes)}
    head = "# Written by orca-recipe. Commit it beside the recipe: `build --locked` demands what it pins.\n"
    with writing(path.parent, f"the lock {path}"):
        write_text(path, head + tomli_w.dumps(table))


def _outcomes(table: Any) -> Mapping[str, Any]:
    """Check the outcomes: texts, and tables of texts. Raises: TypeError for anything no program of ours writes."""
    if not isinstance(table, dict):
        raise TypeError("outcomes, as a table")
    for name, value in table.items():
        is_table = isinstance(value, dict)
        texts = value.values() if is_table else [value]
        if (name in _TABLES and not is_table) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"outcomes.{name}, as {'a table of texts' if name in _TABLES else 'a text'}")
    return table
