"""Checks of a plan and its outcomes against a lock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orca_recipes.contract.spelling import printable
from orca_recipes.errors import LockError
from orca_recipes.plan.stages import Plan


def other_manifest(locked: Mapping[str, Any], made: Mapping[str, Any]) -> str | None:
    """Describe the difference of a manifest's contents from the locked ones, None if there is none. The recipe's words
    do not count: they say where data lie, and are as the user wrote them. A lock older than `contents` is compared by
    the manifest's own digest.
    """
    name = "contents" if "contents" in locked else "manifest"
    if name not in locked or locked[name] == made[name]:
        return None
    same = " (its data are the locked ones: another version of orca-recipes may count otherwise)"
    told = same if locked.get("data") == made["data"] else ""
    return f"{name}: {locked[name]} is locked, and its manifest says {made[name]}{told}"


def check_plan(path: Path, locked: Mapping[str, str], plan: Plan) -> None:
    """Hold the stages against the lock's: with equal pins, only the recipe can make them differ."""
    here = {stage.name: stage.fingerprint for stage in plan}
    others = [name for name in here if locked and locked.get(name) != here[name]]
    others += [name for name in locked if name not in here]
    if others:
        raise LockError(
            f"{path}: the recipe says something else than when it was locked; "
            f"these stages differ: {', '.join(others)}; "
            "take the change back (a profile, --set, --limit or another version of orca-recipes counts as one), or run "
            "`orca-recipe lock`"
        )


def check_outcomes(path: Path, locked: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Refuse a build whose outcomes differ from those in the lock."""
    if "shards" not in locked:
        return
    found = [
        f'{name}: locked is "{locked[name]}", here it is "{made[name]}"'
        for name in ("tokenizer", "template", "data")
        if name in locked and locked[name] != made[name]
    ]
    if (other := other_manifest(locked, made)) is not None:
        found.append(other)
    answers = (locked.get("answers", {}), made.get("answers", {}))
    for name in sorted({*answers[0], *answers[1]}):
        before, after = (table.get(name) for table in answers)
        if before != after:
            found.append(f"answers to {name}: {before or 'none'} are locked, {after or 'none'} were used")
    for name in sorted({*locked["shards"], *made["shards"]}):
        before, after = locked["shards"].get(name), made["shards"].get(name)
        if before != after:
            found.append(f"{name}: {before or 'no such file'} is locked, {after or 'no such file'} was built")
    if found:
        told = "\n".join(f"  {printable(line)}" for line in found)
        raise LockError(f"{path}: from the same pins, something else was built than is locked:\n{told}")
