"""The plan of a build, for `orca-recipe plan` and for `Recipe.plan` alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orca_recipes.preview.bill import Bill
    from orca_recipes.preview.preview import Preview
    from orca_recipes.progress import Progress
    from orca_recipes.recipe.model import Recipe
    from orca_recipes.run.build import Asked


_MADE_BY_PLANNING = ("tokenizer", "template")


@dataclass(frozen=True)
class Plan:
    """A plan, with the bill of its answers where some are bought.

    shapes: the layouts that collections are read by, by the name of the collection. away: why it was made from known
    sizes, a sentence a source that would have to be loaded first.
    """

    preview: Preview
    bill: Bill | None
    warnings: tuple[str, ...]
    shapes: Mapping[str, str]
    away: tuple[str, ...] = ()
    bare_store: str | None = None

    def as_json(self) -> dict[str, Any]:
        answers = self.bill.as_json() if self.bill else None
        return {**self.preview.as_json(), "answers": answers, "warnings": self.warnings, "shapes": dict(self.shapes)}

    def __str__(self) -> str:
        told = "\n".join(f"collections.{name}: read as {shape}" for name, shape in self.shapes.items())
        lacks = any(row.state == "unknown" for row in self.preview.rows)
        more = "?: not known before the data are read; --scan reads them, and asks nobody" if lacks else ""
        bare = (
            f"the store {self.bare_store} holds none of its stages; where it was built before, run this in the same "
            "folder, or name that store (--store, ORCA_STORE)"
        )
        parts = (told, self.preview, more, bare if self.bare_store else "", self.bill)
        return "\n\n".join(map(str, filter(None, parts)))


def planned(
    asked: Asked,
    *,
    declared: bool = False,
    scan: bool = False,
    progress: Callable[[], AbstractContextManager[Progress]] | None = None,
) -> Plan:
    """Plan a build.

    Args:
        declared: only by what is known without reading. scan: read the sources and draw first, for exact counts.
        progress: makes what is told of a scan.
    Raises: OrcaError where sources, tokenizer or template cannot be read as the recipe says.
    """
    from orca_recipes.plan.warnings import warnings
    from orca_recipes.preview.bill import billed
    from orca_recipes.preview.first_rows import trials
    from orca_recipes.preview.histories import histories
    from orca_recipes.preview.preview import declared as by_declaration
    from orca_recipes.preview.preview import preview
    from orca_recipes.progress import Progress
    from orca_recipes.run.build import bench_of, prepare
    from orca_recipes.run.build import scan as scanned
    from orca_recipes.run.pinning.lock_file import lock_path, read_lock
    from orca_recipes.run.pinning.moving_names import sources_away

    loaded = asked.loaded
    warned = tuple(warnings(loaded.recipe))
    if declared:
        return Plan(by_declaration(loaded.recipe, limit=asked.limit), None, warned, _shapes(loaded.recipe))
    lock = read_lock(lock_path(loaded.path, loaded.profile))
    away = () if scan else tuple(sources_away(loaded.recipe, lock))
    if away:
        return Plan(by_declaration(loaded.recipe, limit=asked.limit), None, warned, _shapes(loaded.recipe), away)
    prepared = prepare(asked)
    if scan:
        with progress() if progress else nullcontext(Progress()) as told:
            scanned(asked, prepared, told)
    bill = billed(asked, prepared)
    bench = bench_of(asked, prepared, Progress())
    shown = preview(asked, prepared, trials(bench), histories(bench))
    was_built = lock is not None and bool(lock.outcomes)
    is_bare = all(stage.state != "cached" for stage in shown.stages if stage.name not in _MADE_BY_PLANNING)
    bare_store = asked.store.name if was_built and is_bare else None
    return Plan(shown, bill, warned, _shapes(prepared.recipe), bare_store=bare_store)


def _shapes(recipe: Recipe) -> dict[str, str]:
    pins = {name: source.pins().get("shape") for name, source in recipe.collections.items()}
    return {name: shape for name, shape in pins.items() if shape is not None}
