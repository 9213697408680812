"""Collecting without building."""

from __future__ import annotations

from dataclasses import dataclass

from orca_recipes.counted import counted
from orca_recipes.errors import BuildError
from orca_recipes.plan.compile import collects, taken_collections
from orca_recipes.run.collect import Bought
from orca_recipes.run.execute import Execution


@dataclass(frozen=True)
class Collected:
    """What a collection of a dataset has of answers; asked: those that were asked for now; refused: of no use."""

    dataset: str
    collection: str
    teacher: str
    requests: int
    asked: int
    refused: int

    def __str__(self) -> str:
        return (
            f"{self.dataset}/{self.collection}: {counted(self.requests, 'answer')} of {self.teacher} stored, "
            f"{self.asked:,} of them asked now; {self.refused:,} cannot be used"
        )


def collected(execution: Execution) -> list[Collected]:
    """Bring all answers of a recipe into the traces and the store; return what to tell, dataset by dataset.

    Raises: BuildError where no dataset's teacher collects; as `Execution.run`.
    """
    recipe = execution.recipe
    datasets = [name for name in recipe.datasets if collects(recipe, name)]
    if not datasets:
        raise BuildError(f"recipe {recipe.name}: no dataset has a teacher whose answers are collected; build it")
    execution.run(("answer",))
    found = []
    for name in datasets:
        for collection in taken_collections(recipe, name):
            report = execution.folder(f"answer {name}/{collection}").receipt["report"]
            bought = execution.answering.bought.get(f"{name}/{collection}", Bought())
            teacher = recipe.datasets[name].teacher
            found.append(Collected(name, collection, teacher, report["requests"], bought.asked, report["refused"]))
    return found
