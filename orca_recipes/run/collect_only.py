"""Collecting without building."""

from __future__ import annotations

from orca_recipes.counted import counted
from orca_recipes.errors import BuildError
from orca_recipes.plan.compile import collects, taken_collections
from orca_recipes.run.collect import Bought
from orca_recipes.run.execute import Execution


def collected(execution: Execution) -> list[str]:
    """Bring all answers of a recipe into the traces and the store; return what to tell, dataset by dataset.

    Raises: BuildError where no dataset's teacher collects; as `Execution.run`.
    """
    recipe = execution.recipe
    datasets = [name for name in recipe.datasets if collects(recipe, name)]
    if not datasets:
        raise BuildError(f"recipe {recipe.name}: no dataset has a teacher whose answers are collected; build it")
    execution.run(("answer",))
    lines = []
    for name in datasets:
        for collection in taken_collections(recipe, name):
            report = execution.folder(f"answer {name}/{collection}").receipt["report"]
            bought = execution.answering.bought.get(f"{name}/{collection}", Bought())
            lines.append(
                f"{name}/{collection}: {counted(report['requests'], 'answer')} of {recipe.datasets[name].teacher} "
                f"stored, {bought.asked:,} of them asked now; {report['refused']:,} cannot be used"
            )
    return lines
