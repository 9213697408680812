"""A recipe from Python: checked, planned and built as by the command line, with its sentences and no print."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_recipes.errors import Fault, RecipeError

if TYPE_CHECKING:
    from orca_recipes.front.opened import Build
    from orca_recipes.front.planned import Plan
    from orca_recipes.recipe.load import LoadedRecipe
    from orca_recipes.run.build import Asked
    from orca_recipes.run.work.workers import Work

STORE = Path(".orca/store")
"""Where finished stages are kept, unless one says otherwise: below the current folder."""

_GIVEN = "(a recipe given as a dict)"
# A dict may hold itself, and would be walked for ever.
_DEEPEST = 64


def load_recipe(recipe: str | Path | Mapping[str, Any], profile: str | None = None, set: Sequence[str] = ()) -> Recipe:
    """Take a recipe: the path of a TOML file, or its tables as a dict.

    Nothing is read before it is needed, so that `check` can tell all faults.

    Args:
        recipe: relative paths in a file begin at its folder, in a dict at the current one. A dict has no lock.
        profile: the `[profiles.NAME]` that is merged into the recipe.
        set: assignments as of `--set`, "packing.row_tokens=4096".
    """
    if isinstance(recipe, Mapping):
        return Recipe(Path.cwd() / _GIVEN, _tables(recipe), profile, tuple(set))
    return Recipe(Path(recipe), None, profile, tuple(set))


@dataclass(frozen=True)
class Recipe:
    """A recipe; `load_recipe` makes it.

    path: of its file. table: its tables, where it is none.
    """

    path: Path
    table: Mapping[str, Any] | None
    profile: str | None
    set: tuple[str, ...]

    def check(self) -> tuple[Fault, ...]:
        """Tell all that is wrong with the recipe; empty where it is sound. Reads nothing but the recipe."""
        try:
            _ = self.loaded
        except RecipeError as error:
            return error.faults
        return ()

    def plan(
        self,
        *,
        store: str | Path = STORE,
        traces: str | Path | None = None,
        limit: int | None = None,
        declared: bool = False,
        scan: bool = False,
    ) -> Plan:
        """Tell what a build would do: stages, what the store holds of them, counts and costs.

        Args:
            store, traces: where finished stages and bought answers are kept.
            limit: at most so many examples of each collection.
            declared: only by what is known without reading. scan: read and draw first, for exact counts.
        Raises: RecipeError with all faults of the recipe; OrcaError where what it names cannot be read.
        """
        from orca_recipes.front.planned import planned

        return planned(self._asked(store=store, traces=traces, limit=limit), declared=declared, scan=scan)

    def build(
        self,
        *,
        out: str | Path | None = None,
        store: str | Path = STORE,
        traces: str | Path | None = None,
        workers: int | None = None,
        locked: bool = False,
        limit: int | None = None,
    ) -> Build:
        """Build the recipe, or find it built; only what changed is made anew.

        Args:
            out: the build directory; `build/NAME` below the current folder where it is not said.
            store, traces: where finished stages and bought answers are kept.
            workers: processes, one a core where it is not said.
            locked: refuse anything but what the lock pins.
            limit: at most so many examples of each collection.
        Raises: RecipeError with all faults of the recipe; LockError under `locked`; whatever else a stage raises, as an
            OrcaError.
        """
        from orca_recipes.front.opened import open_build
        from orca_recipes.progress import Progress
        from orca_recipes.run.build import made

        asked = self._asked(out=out, store=store, traces=traces, workers=workers, locked=locked, limit=limit)
        made(asked, Progress())
        return open_build(asked.directory if out is None else out)

    @cached_property
    def loaded(self) -> LoadedRecipe:
        """Return the recipe, read. Raises: RecipeError with all its faults."""
        from orca_recipes.catalogue import Catalogue
        from orca_recipes.recipe.load import load_recipe

        return load_recipe(self.path, catalogue=Catalogue(), profile=self.profile, overrides=self.set, table=self.table)

    def _asked(
        self,
        *,
        store: str | Path,
        traces: str | Path | None,
        limit: int | None,
        out: str | Path | None = None,
        workers: int | None = None,
        locked: bool = False,
    ) -> Asked:
        from orca_recipes.store.shared_build import build_place
        from orca_recipes.store.shared_store import store_place
        from orca_recipes.traces.shared_traces import traces_place

        return asked_of(
            self.loaded,
            store=store_place(store),
            traces=None if traces is None else traces_place(traces),
            out=None if out is None else build_place(out),
            workers=workers,
            limit=limit,
            locked=locked,
        )


def asked_of(
    loaded: LoadedRecipe,
    *,
    store: Path,
    out: Path | None,
    limit: int | None,
    workers: int | None = None,
    work: Work | None = None,
    **more: Any,
) -> Asked:
    """Resolve a request for a build, with defaults for everything left open.

    Args:
        work: who loads files for the first time; another process, unless it is said.
    """
    from orca_recipes.run.build import Asked
    from orca_recipes.run.work.limited import LIMITED
    from orca_recipes.store.shared_store import store_at

    if work is None:
        LIMITED.begin()
    name = loaded.recipe.name + (f".{loaded.profile}" if loaded.profile else "") + (f".limit-{limit}" if limit else "")
    directory = out or Path("build") / name
    number = workers or os.cpu_count() or 1
    return Asked(loaded, store_at(store), directory, number, limit=limit, work=work or LIMITED, **more)


def _tables(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a recipe's tables to the values TOML would give. Raises: RecipeError with the keys of values that TOML
    cannot write."""
    faults: list[Fault] = []
    plain = _plain(recipe, (), faults)
    if faults:
        raise RecipeError(faults)
    return dict(plain)


def _plain(value: Any, path: tuple[str, ...], faults: list[Fault]) -> Any:
    if len(path) > _DEEPEST:
        faults.append(Fault(_GIVEN, 0, ".".join(path[:3]), "is nested too deep"))
    elif isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str)]
        faults += [Fault(_GIVEN, 0, ".".join(path), f"has a key that is no text: {key!r}") for key in odd]
        return {key: _plain(inner, (*path, key), faults) for key, inner in value.items() if isinstance(key, str)}
    elif isinstance(value, list | tuple):
        return [_plain(inner, (*path, str(place)), faults) for place, inner in enumerate(value)]
    elif isinstance(value, Path):
        return str(value)
    elif isinstance(value, str | bool | int | float):
        return value
    else:
        faults.append(Fault(_GIVEN, 0, ".".join(path), f"is of type {type(value).__name__}, which no recipe can hold"))
    return ""
