"""Find the files a recipe reads, and lay them out in an archive as they lie around the recipe's own folder.

Relative paths of the recipe hold there as they stand; absolute ones are written as relative ones.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from orca_recipes.contract.kinds import Kind
from orca_recipes.plan.used_parts import used_collections
from orca_recipes.recipe.load import LoadedRecipe


@dataclass(frozen=True)
class Read:
    """One file that a build reads. part: of the recipe. packs: whether the recipe names a path that it lies at."""

    part: str
    path: Path
    packs: bool


def files_read(loaded: LoadedRecipe) -> Iterator[Read]:
    """Yield every file that decides bytes: of sources, tokenizer, template, teachers and system messages."""
    recipe = loaded.recipe
    for name in dict.fromkeys((*used_collections(recipe), *recipe.message_collections())):
        source = recipe.collections[name]
        yield from _of_kind(f"collections.{name}", source, [file.path for file in source.files()])
    yield from _of_kind("tokenizer", recipe.tokenizer, [file.path for file in recipe.tokenizer.files()])
    for part, kind in (("template", recipe.template), *((f"teachers.{n}", t) for n, t in recipe.teachers.items())):
        yield from _of_kind(part, kind, [place for place in _places(kind) if place.is_file()])
    for name in recipe.used_system_messages():
        path = recipe.system_messages[name].path
        if path is not None and path.is_file():
            yield Read(f"system_messages.{name}", _absolute(path), packs=True)


def _of_kind(part: str, kind: Kind, paths: Sequence[Path]) -> Iterator[Read]:
    """Yield a kind's files; those in a hub's cache, at no path of the recipe, are marked as not packed."""
    places = [_absolute(place) for place in _places(kind)]
    for path in map(_absolute, paths):
        yield Read(part, path, packs=any(path.is_relative_to(place) for place in places) or _by_pattern(path, places))


def _by_pattern(path: Path, places: Sequence[Path]) -> bool:
    """Tell whether a file lies below the fixed folder of a glob pattern among `places`, the path before its first
    wildcard."""
    plain = [Path(*place.parts[: next(_stars(place))]) for place in places if any(True for _ in _stars(place))]
    return any(path.is_relative_to(folder) for folder in plain)


def _stars(place: Path) -> Iterator[int]:
    return (at for at, part in enumerate(place.parts) if any(mark in part for mark in "*?["))


def _places(kind: Kind) -> list[Path]:
    held = (getattr(kind, name) for name in type(kind).model_fields)
    found: list[Path] = []
    for value in held:
        found += [one for one in (value if isinstance(value, tuple | list) else [value]) if isinstance(one, Path)]
    return found


def _absolute(path: Path) -> Path:
    """Make a path absolute without following links, so that it stays the path the recipe names."""
    return Path(os.path.abspath(path))


def root_of(recipe: Path, reads: Sequence[Read]) -> Path:
    """Return the deepest folder that holds the recipe and every packed file."""
    return Path(os.path.commonpath([_absolute(recipe).parent, *(read.path.parent for read in reads if read.packs)]))


def portable(loaded: LoadedRecipe, root: Path, kept: Sequence[Read]) -> bytes:
    """Return the recipe's text unchanged, or joined with the recipes it extends; absolute paths to packed files or
    their folders become relative."""
    text = loaded.path.read_bytes()
    recipe = loaded.path
    # utf-8-sig: editors may write a byte order mark, which TOML does not allow.
    table = loaded.joined if loaded.extends else tomllib.loads(text.decode("utf-8-sig"))
    held = {folder for read in kept for folder in (read.path, *read.path.parents) if folder.is_relative_to(root)}
    moved = _moved(table, _absolute(recipe).parent, held - {Path("/")})
    return text if moved == table and not loaded.extends else tomli_w.dumps(moved).encode()


def _moved(value: Any, folder: Path, held: Set[Path]) -> Any:
    if isinstance(value, Mapping):
        return {key: _moved(inner, folder, held) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, folder, held) for inner in value]
    if isinstance(value, str) and value.startswith(("/", "~")) and "\n" not in value:
        path = _absolute(Path(value).expanduser())
        if path in held:
            return Path(os.path.relpath(path, folder)).as_posix()
    return value
