"""What a recipe asks for that can be built and is hardly meant: `check`, `plan` and `build` say it and go on."""

from __future__ import annotations

from collections.abc import Iterator

from orca_recipes.contract.spelling import quoted
from orca_recipes.plan.compile import taken_collections
from orca_recipes.recipe.model import Recipe


def warnings(recipe: Recipe) -> tuple[str, ...]:
    """The warnings of a recipe, each beginning with the dotted path of what it is about."""
    return tuple(_unanswered_instructions(recipe))


def _unanswered_instructions(recipe: Recipe) -> Iterator[str]:
    """Rules that show the student an instruction which nobody was given before answering."""
    for place, rule in enumerate(recipe.rules):
        if not recipe.strategies[rule.strategy].instructs:
            continue
        for name, dataset in recipe.datasets.items():
            answered = not recipe.teachers[dataset.teacher].gives_own_words
            if answered or dataset.student.erase:
                continue
            if any(rule.when.may_match_collection(found) for found in taken_collections(recipe, name)):
                yield (
                    f"rules.{place}.strategy: dataset {quoted(name)} trains on the instruction of strategy "
                    f"{quoted(rule.strategy)} beside answers of teacher {quoted(dataset.teacher)}, who was never given "
                    f"it; erase it ([datasets.{name}] student = {{ erase = true }}), choose a teacher that is asked, "
                    'or take strategy = "direct"'
                )
