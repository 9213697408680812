"""`extends`: a recipe laid over another one, a file beside it or a recipe of an installed package.

It is laid over the other as a profile is, before profile and `--set`, and the other over what it extends itself.
Relative paths go on meaning what they meant in the file that wrote them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orca_recipes.contract.kind import is_place
from orca_recipes.contract.pieces import PIECES
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import Fault, PluginError, RecipeError
from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.defaults import KINDS
from orca_recipes.recipe.profile_layers import Layers
from orca_recipes.recipe.recipe_file import read_recipe_file
from orca_recipes.recipe.required import unmet
from orca_recipes.recipe.wording import described, dotted

KEY = "extends"
GROUP = "orca_recipes.recipes"
"""Entry points of packages that bring recipes: NAME = "package", whose folder holds NAME.toml."""

_ENDING = ".toml"
_HOOKS = {piece.table.strip("[]").partition(".")[0]: piece.hook for piece in PIECES if piece.is_of_recipe}


@dataclass(frozen=True)
class Extended:
    """A recipe that another one extends. name: the file as the other writes it, or "distribution:name"."""

    name: str
    path: Path


def extended(layers: Layers, path: Path, folder: Path, kinds: Kinds) -> tuple[Layers, tuple[Extended, ...]]:
    """Lay a recipe over what it extends.

    Args:
        layers: of the recipe, whose `extends` is taken away. path: what faults call it. folder: where its paths begin.
    Returns: both in one, its paths as the recipe would write them; and the recipes below it, the nearest first.
    Raises: RecipeError where there is no such recipe, a circle of them, or a package that one of them requires is not
        installed.
    """
    return _laid(layers, path, folder, kinds, (os.path.realpath(path),))


def _laid(
    layers: Layers, path: Path, folder: Path, kinds: Kinds, above: tuple[str, ...]
) -> tuple[Layers, tuple[Extended, ...]]:
    if KEY not in layers.table:
        return layers, ()
    if missing := list(unmet(layers.table.get("requires", {}))):
        raise RecipeError([_fault(layers, path, spot, sentence) for spot, sentence in missing])
    found = _found(layers.table.pop(KEY), folder)
    if isinstance(found, str):
        raise RecipeError([_fault(layers, path, (KEY,), found)])
    place = os.path.realpath(found.path)
    if place in above:
        circle = " -> ".join(Path(name).name for name in (*above[above.index(place) :], place))
        raise RecipeError([_fault(layers, path, (KEY,), f"goes in a circle: {circle}; take one of them out")])
    del layers.origins[(KEY,)]
    below, more = _laid(read_recipe_file(found.path), found.path, found.path.parent, kinds, (*above, place))
    _move_places(below.table, found.path.parent, folder, kinds)
    below.lay(layers)
    return below, (found, *more)


def _fault(layers: Layers, path: Path, spot: tuple[str | int, ...], sentence: str) -> Fault:
    origin = layers.origin(spot)
    return Fault(origin.file or str(path), origin.line, dotted(spot), sentence)


def _found(wanted: Any, folder: Path) -> Extended | str:
    """Find the recipe that is extended; return a sentence if there is none."""
    if not isinstance(wanted, str) or not wanted:
        return f"must be a recipe's file, as in \"base{_ENDING}\", or a package's recipe, and is {described(wanted)}"
    if wanted.endswith(_ENDING):
        path = folder / Path(wanted).expanduser()
        return Extended(wanted, path) if path.is_file() else f"there is no such recipe: {path}"
    owner, _, name = wanted.rpartition(":")
    points = [point for point in metadata.entry_points(group=GROUP) if point.dist is not None]
    offered = {(point.dist.name, point.name): point for point in points if point.dist is not None}
    fitting = [key for key in sorted(offered) if key[1] == name and owner in ("", key[0])]
    if len(fitting) > 1:
        both = " and ".join(distribution for distribution, _ in fitting)
        return f'{both} each have a recipe {quoted(name)}; say which, as in "{fitting[0][0]}:{name}"'
    if not fitting:
        names = sorted({known for _, known in offered})
        return f"no installed package has a recipe {quoted(wanted)}{hint(name, names)}; a file is named with {_ENDING}"
    file = _file_of(offered[fitting[0]])
    if file is None:
        return f"{fitting[0][0]} promises a recipe {quoted(name)} and holds no {name}{_ENDING}; tell its author"
    return Extended(":".join(fitting[0]), file)


def _file_of(point: metadata.EntryPoint) -> Path | None:
    """Find the file of a package's recipe without running any code of the package."""
    top, *inner = point.value.split(".")
    # Of a dotted name, find_spec would import the packages around it.
    spec = find_spec(top) if top else None
    folders = [*(spec.submodule_search_locations or ())] if spec else []
    paths = (Path(folder, *inner, f"{point.name}{_ENDING}") for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _move_places(table: dict[str, Any], before: Path, after: Path, kinds: Kinds) -> None:
    """Write the relative paths of a recipe in one folder as they are in another."""
    if os.path.realpath(before) == os.path.realpath(after):
        return
    profiles = table.get("profiles")
    layers = profiles.values() if isinstance(profiles, dict) else ()
    for layer in (table, *(layer for layer in layers if isinstance(layer, dict))):
        for holder, key in _places(layer, table, kinds):
            holder[key] = _moved(holder[key], before, after)


def _places(layer: dict[str, Any], whole: dict[str, Any], kinds: Kinds) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the options of a layer that hold paths, as (table, key). whole: the full recipe, used if the layer does not
    name the kind."""
    for head, hook in _HOOKS.items():
        for name, chosen in _tables(layer, head):
            there = dict(_tables(whole, head)).get(name, {})
            kind = chosen.get("kind", there.get("kind", KINDS.get(head)))
            try:
                fields = kinds.kind(hook, kind).model_fields if isinstance(kind, str) else {}
            except PluginError:
                continue  # told of when the recipe is judged
            names = (name for name, field in fields.items() if is_place(field.metadata, field.annotation))
            yield from ((chosen, name) for name in names if name in chosen)
    sets = layer.get("system_messages")
    for chosen in sets.values() if isinstance(sets, dict) else ():
        if isinstance(chosen, dict) and "path" in chosen:
            yield chosen, "path"


def _tables(layer: dict[str, Any], head: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield the tables of kinds under one top-level table of a recipe, each with a name unique there."""
    table = layer.get(head)
    if not isinstance(table, dict):
        return
    if head == "datasets":
        for name, dataset in table.items():
            filters = dataset.get("filters") if isinstance(dataset, dict) else None
            for place, chosen in enumerate(filters if isinstance(filters, list) else ()):
                if isinstance(chosen, dict):
                    yield f"{name}.{place}", chosen
    elif head in ("collections", "strategies", "teachers"):
        yield from ((name, chosen) for name, chosen in table.items() if isinstance(chosen, dict))
    else:
        yield "", table


def _moved(value: Any, before: Path, after: Path) -> Any:
    if isinstance(value, list):
        return [_moved(inner, before, after) for inner in value]
    if not isinstance(value, str) or not value or "://" in value or Path(value).expanduser().is_absolute():
        return value
    return Path(os.path.relpath(before / value, after.absolute())).as_posix()
