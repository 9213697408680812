"""Warnings about recipes that can be built and are hardly meant: `check`, `plan` and `build` say them and go on."""

from __future__ import annotations

from collections.abc import Iterator

from orca_recipes.contract.spelling import quoted
from orca_recipes.plan.used_parts import taken_collections
from orca_recipes.recipe.model import Recipe


def warnings(recipe: Recipe) -> tuple[str, ...]:
    """List the warnings of a recipe, each beginning with the dotted path of its subject."""
    return tuple(_unanswered_instructions(recipe))


def _unanswered_instructions(recipe: Recipe) -> Iterator[str]:
    """Warn of rules that show the student an instruction, while nobody was given it before answering."""
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
