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

    def as_json(self) -> dict[str, Any]:
        answers = self.bill.as_json() if self.bill else None
        return {**self.preview.as_json(), "answers": answers, "warnings": self.warnings, "shapes": dict(self.shapes)}

    def __str__(self) -> str:
        told = "\n".join(f"collections.{name}: read as {shape}" for name, shape in self.shapes.items())
        lacks = any(row.state == "unknown" for row in self.preview.rows)
        more = "?: not known before the data are read; --scan reads them, and asks nobody" if lacks else ""
        return "\n\n".join(map(str, filter(None, (told, self.preview, more, self.bill))))


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
    away = () if scan else tuple(sources_away(loaded.recipe, read_lock(lock_path(loaded.path, loaded.profile))))
    if away:
        return Plan(by_declaration(loaded.recipe, limit=asked.limit), None, warned, _shapes(loaded.recipe), away)
    prepared = prepare(asked)
    if scan:
        with progress() if progress else nullcontext(Progress()) as told:
            scanned(asked, prepared, told)
    bill = billed(asked, prepared)
    bench = bench_of(asked, prepared, Progress())
    shown = preview(asked, prepared, trials(bench), histories(bench))
    return Plan(shown, bill, warned, _shapes(prepared.recipe))


def _shapes(recipe: Recipe) -> dict[str, str]:
    pins = {name: source.pins().get("shape") for name, source in recipe.collections.items()}
    return {name: shape for name, shape in pins.items() if shape is not None}
