"""The two sides of a comparison: recipes, locks or builds, told apart by their paths."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.errors import UserError
from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.pinning.lock_file import lock_path, read_lock
from orca_recipes.shards.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class Side:
    """One of the two; asked: what was asked for. pins: every moving name; None where that is not known.

    manifest: of a build, else None.
    """

    path: Path
    sort: str
    asked: Mapping[str, Any] | None
    pins: Mapping[str, Any] | None
    manifest: Manifest | None = None


def open_side(path: Path, *, kinds: Kinds, profile: str | None) -> Side:
    """Open a folder as a build, a `.lock` as a lock and any other file as a recipe.

    Args:
        kinds: the catalogue, by which a recipe is checked.
        profile: of recipes, what it makes of them is compared; None: all that is written, profiles too, in them and in
            the recipes that they extend.
    Raises: UserError, or as the readers of each.
    """
    if path.is_dir():
        return _of_build(path)
    if path.suffix == ".lock":
        return _of_lock(path)
    return _of_recipe(path, kinds, profile)


def together(before: Side, after: Side) -> None:
    """Refuse two that are not of one sort."""
    if before.sort != after.sort:
        sorts = f"{before.path} is a {before.sort} and {after.path} a {after.sort}"
        raise UserError(f"{sorts}: name two recipes, two locks or two builds")


def _of_build(path: Path) -> Side:
    manifest = read_manifest(path)
    asked = {**manifest.recipe, "profile": manifest.profile, "limit": manifest.limit, "set": list(manifest.set)}
    return Side(path, "build", asked, _pins_of(manifest), manifest)


def _of_lock(path: Path) -> Side:
    if read_lock(path) is None:
        raise UserError(f"{path}: there is no such lock; `orca-recipe lock RECIPE` writes one")
    return Side(path, "lock", None, _plain(tomllib.loads(path.read_text(encoding="utf-8"))))


def _of_recipe(path: Path, kinds: Kinds, profile: str | None) -> Side:
    loaded = load_recipe(path, catalogue=kinds, profile=profile)
    # utf-8-sig: editors may write a byte order mark, which TOML does not allow.
    written = loaded.joined if loaded.extends else tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    lock = lock_path(path, profile)
    pins = None if read_lock(lock) is None else _of_lock(lock).pins
    return Side(path, "recipe", _plain(loaded.resolved if profile else written), pins)


def _pins_of(manifest: Manifest) -> dict[str, Any]:
    """Return a build's record of its pins: digests of what they resolved to, and the fingerprints of its stages."""
    words = ("row_tokens", "align", "pad_id", "bos_id", "unused_bos_id", "vocabulary_size", "dtype", "format")
    told = manifest.model_dump(mode="json")
    return {
        "lock": manifest.lock_digest,
        "plugins": told["plugins"],
        "stages": {stage.name: stage.fingerprint for stage in manifest.plan},
        "student": {name: told[name] for name in (*words, "terminators")},
        "tokenizer": {file.path: file.digest for file in manifest.files if file.path.startswith("tokenizer/")},
    }


def _plain(value: Any) -> Any:
    """Convert TOML's values to what JSON has: dates become text."""
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def told(side: Side) -> str:
    """Say what a side is, in few words."""
    if side.manifest is None:
        return f"{side.sort} {side.path}"
    examples = sum(counts.examples for counts in side.manifest.datasets.values())
    return f"build {side.path}: {counted(examples, 'example')}, data {side.manifest.data_digest}"
