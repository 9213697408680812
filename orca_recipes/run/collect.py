"""Collecting without building."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from orca_recipes.counted import counted
from orca_recipes.errors import BuildError
from orca_recipes.plan.used_parts import collects, taken_collections
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.answers.collecting import Collecting, count_billed_twice, questions_of
from orca_recipes.run.answers.requests import asked_parts, keys_of
from orca_recipes.run.answers.session import Bought
from orca_recipes.run.execute import execute
from orca_recipes.run.work.bench import Bench


@dataclass(frozen=True)
class Collected:
    """Answers of one collection of a dataset. asked: those asked for now. refused: useless answers; empty: those of
    them whose replies were all empty. maybe_billed_twice: sendings without any reply before an answer came.
    empty: every reply held nothing; maybe_billed_twice: sendings that nothing came back of, before an answer came."""

    dataset: str
    collection: str
    teacher: str
    requests: int
    asked: int
    refused: int
    empty: int = 0
    maybe_billed_twice: int = 0

    def __str__(self) -> str:
        empty = f" ({self.empty:,} empty)" if self.empty else ""
        twice = f"; {self.maybe_billed_twice:,} may be billed twice" if self.maybe_billed_twice else ""
        return (
            f"{self.dataset}/{self.collection}: {counted(self.requests, 'answer')} of {self.teacher} stored, "
            f"{self.asked:,} of them asked now; {self.refused:,} cannot be used{empty}{twice}"
        )


def collected(bench: Bench) -> list[Collected]:
    """Bring all answers of a recipe into the traces and the store; return what to tell, dataset by dataset.

    Raises: BuildError where no dataset's teacher collects; as `Bench.run`.
    """
    recipe = bench.recipe
    _collecting(recipe)
    execute(bench, ("answer",))
    count_billed_twice(bench)
    found = []
    for name in (name for name in recipe.datasets if collects(recipe, name)):
        for collection in taken_collections(recipe, name):
            report = bench.folder(f"answer {name}/{collection}").receipt["report"]
            bought = bench.shared(Collecting).bought.get(f"{name}/{collection}", Bought())
            counts = (report["requests"], bought.asked, report["refused"], report.get("empty", 0))
            teacher, twice = recipe.datasets[name].teacher, bought.maybe_billed_twice
            found.append(Collected(name, collection, teacher, *counts, maybe_billed_twice=twice))
    return found


def requested(bench: Bench, *, without: Collection[str] = ()) -> frozenset[bytes]:
    """Collect the keys of all requests to a recipe's teachers, except those of some collections. Raises: as
    `collected`."""
    teachers = _collecting(bench.recipe)
    execute(bench, ("ask",))
    questions = [each for name in teachers for each in questions_of(bench, name)]
    questions = [each for each in questions if each.subject.partition("/")[2] not in without]
    return frozenset(key for each in questions for part in asked_parts(each.asked) for key in keys_of(part))


def _collecting(recipe: Recipe) -> dict[str, str]:
    """Map each teacher whose answers are collected to one of its datasets."""
    found = {recipe.datasets[name].teacher: name for name in recipe.datasets if collects(recipe, name)}
    if not found:
        raise BuildError(f"recipe {recipe.name}: no dataset has a teacher whose answers are collected; build it")
    return found
