"""The stages that compare a dataset's examples with each other and with those of other collections and mixtures.

A comparison needs all of a dataset at once, so it is one stage between conversations that are one for each collection.
Questions are compared before answers are bought, since an answer to a question that is thrown away is paid for too.
"""

from typing import Any

from orca_recipes.contract.comparison import Comparison
from orca_recipes.errors import MixtureError
from orca_recipes.plan.mixing import mixture_collections
from orca_recipes.plan.stages import PlanBuilder
from orca_recipes.plan.used_parts import decisive, taken_collections
from orca_recipes.recipe.model import Recipe

QUESTIONS = "questions"
"""What is compared before answers are bought: the end of that stage's subject."""


def compared_questions(name: str) -> str:
    """Name the stage that compares a dataset's questions before they are asked."""
    return f"compare {name}/{QUESTIONS}"


def add_comparison_of_questions(plan: PlanBuilder, recipe: Recipe, name: str) -> str:
    """Add the stage that compares a dataset's questions as they are drawn, before anybody is asked."""
    mixture = recipe.datasets[name].mixture
    drawn = [f"{verb}{found}" for found in taken_collections(recipe, name) for verb in ("read ", f"mix {mixture}/")]
    kinds = recipe.datasets[name].comparisons_of_questions
    return plan.add(
        "compare",
        f"{name}/{QUESTIONS}",
        kind=" ".join(f"filters:{kind.kind}" for kind in kinds),
        decisive={**_compare_decisive(recipe, name, kinds), "of": QUESTIONS},
        # A mixture may share collections with the dataset: an input that stands twice would change the fingerprint for
        # nothing.
        inputs=tuple(dict.fromkeys([*drawn, *_compared(recipe, name, kinds)])),
        kinds=kinds,
    )


def add_comparison(plan: PlanBuilder, recipe: Recipe, name: str, conversations: tuple[str, ...]) -> str:
    """Add the stage that compares a dataset's conversations with each other and with the collections and mixtures of
    its filters."""
    kinds = recipe.datasets[name].comparisons
    return plan.add(
        "compare",
        name,
        kind=" ".join(f"filters:{kind.kind}" for kind in kinds),
        decisive=_compare_decisive(recipe, name, kinds),
        inputs=(*conversations, *dict.fromkeys(_compared(recipe, name, kinds))),
        kinds=kinds,
    )


def _compare_decisive(recipe: Recipe, name: str, kinds: tuple[Comparison, ...]) -> dict[str, Any]:
    return {
        "filters": [decisive(kind) for kind in kinds],
        "collections": list(taken_collections(recipe, name)),
        "seed": recipe.seed,
    }


def _compared(recipe: Recipe, name: str, kinds: tuple[Comparison, ...]) -> list[str]:
    """List the stages of the collections and mixtures that filters compare a dataset with.

    Raises: MixtureError where that is the dataset itself.
    """
    for kind in kinds:
        if own := [found for found in kind.collections() if found in taken_collections(recipe, name)]:
            raise MixtureError(
                f"datasets.{name}.filters: {kind.kind} compares with collection {own[0]}, which the dataset itself is "
                "made of: all of its rows are like themselves; take it out of `against`, or out of the mixture"
            )
    compared = [f"read {found}" for kind in kinds for found in kind.collections()]
    return compared + [
        f"{verb}{found}"
        for kind in kinds
        for mixture in kind.mixtures()
        for found in mixture_collections(recipe, mixture)
        for verb in ("read ", f"mix {mixture}/")
    ]
