"""Installation needs of a recipe (`[requires]`), checked before anything else of it.

A kind that no package here offers would be a fault of the recipe otherwise, and the package that offers it unnamed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Annotated, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import Field

from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.recipe.grammar import Grammar
from orca_recipes.recipe.toml_lines import Path
from orca_recipes.recipe.wording import described

_OURS = "orca-recipes"


class Requires(Grammar):
    """Packages and versions needed to read a recipe."""

    plugins: Annotated[tuple[str, ...], Field(description='packages with their versions: "orca-x>=1,<2"')] = ()
    orca: Annotated[str | None, Field(description='versions of orca-recipes: ">=0.2"')] = None


def unmet(table: Any) -> Iterator[tuple[Path, str]]:
    """Yield each unmet entry of `[requires]` with the pip line that installs it, and each unreadable one."""
    if not isinstance(table, Mapping):
        yield ("requires",), f"must be a table, [requires], and is {described(table)}"
        return
    known = tuple(Requires.model_fields)
    for key in table:
        if key not in known:
            yield ("requires", key), f"[requires] has no option {quoted(key)}{hint(key, known)}"
    if "orca" in table:
        yield from _unmet_orca(table["orca"])
    plugins = table.get("plugins", [])
    if not isinstance(plugins, list):
        yield ("requires", "plugins"), f'must be a list of packages, ["orca-x>=1,<2"], and is {described(plugins)}'
        return
    for place, text in enumerate(plugins):
        yield from _unmet_plugin(("requires", "plugins", place), text)


def _unmet_orca(wanted: Any) -> Iterator[tuple[Path, str]]:
    path: Path = ("requires", "orca")
    try:
        # packaging looks into what it is given without a check: a number or a list ends in the two other errors.
        versions = SpecifierSet(wanted)
    except (InvalidSpecifier, TypeError, AttributeError):
        yield path, f'must be versions, as in ">=0.2", and is {described(wanted)}'
        return
    yield from _unlike(path, _OURS, versions, f"{_OURS}{versions}")


def _unmet_plugin(path: Path, text: Any) -> Iterator[tuple[Path, str]]:
    try:
        wanted = Requirement(text)
    except (InvalidRequirement, TypeError, AttributeError):
        yield path, f'must be a package with its versions, as in "orca-x>=1,<2", and is {described(text)}'
        return
    if wanted.marker is None or wanted.marker.evaluate():
        yield from _unlike(path, wanted.name, wanted.specifier, text)


def _unlike(path: Path, name: str, versions: SpecifierSet, text: str) -> Iterator[tuple[Path, str]]:
    line = shlex.join(["pip", "install", text])
    try:
        here = metadata.version(name)
    except metadata.PackageNotFoundError:
        yield path, f"the recipe needs {text}, which is not installed: {line}"
        return
    # packaging leaves pre-releases out; one that is installed was meant.
    if not versions.contains(here, prereleases=True):
        yield path, f"the recipe needs {text}, and {name} {here} is installed: {line}"
