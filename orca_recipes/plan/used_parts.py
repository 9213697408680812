"""List the collections, kinds and rules of a recipe that a build uses."""

from typing import Any

from orca_recipes.contract.kinds import Kind
from orca_recipes.plan.mixing import mixture_collections, needed_mixtures
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.rules import Rule


def used_collections(recipe: Recipe) -> tuple[str, ...]:
    """List in recipe order the collections that datasets draw from, are kept apart from, compared with or answered
    from."""
    taken = {found for name in needed_mixtures(recipe) for found in mixture_collections(recipe, name)}
    taken |= {found for name in prepared_teachers(recipe) for found in recipe.teachers[name].collections()}
    taken |= {
        found for dataset in recipe.datasets.values() for kind in dataset.comparisons for found in kind.collections()
    }
    return tuple(name for name in recipe.collections if name in taken)


def prepared_teachers(recipe: Recipe) -> tuple[str, ...]:
    """List the teachers of datasets that take their answers from collections."""
    chosen = dict.fromkeys(dataset.teacher for dataset in recipe.datasets.values())
    return tuple(name for name in chosen if recipe.teachers[name].collections())


def taken_collections(recipe: Recipe, dataset: str) -> tuple[str, ...]:
    """List the collections of one dataset, in recipe order."""
    return mixture_collections(recipe, recipe.datasets[dataset].mixture)


def has_reserve(recipe: Recipe, dataset: str, collection: str) -> bool:
    """Tell whether more rows of a collection are drawn than kept, so filters may take some."""
    take = recipe.mixtures[recipe.datasets[dataset].mixture].take.get(collection)
    return take is not None and take.reserve is not None


def used_kinds(recipe: Recipe) -> tuple[Kind, ...]:
    """List every kind that decides bytes of a stage."""
    return (
        *(recipe.collections[name] for name in used_collections(recipe)),
        *(recipe.strategies[rule.strategy] for rule in recipe.rules),
        *(kind for chosen in recipe.datasets.values() for kind in (recipe.teachers[chosen.teacher], *chosen.filters)),
        recipe.tokenizer,
        recipe.template,
        recipe.packing,
        recipe.output,
    )


def decisive(kind: Kind) -> dict[str, Any]:
    """Return the facts of a kind that decide its output: package, options without places, revision."""
    # The package, since two plugins may offer kinds of one name and options.
    package = type(kind).__module__.partition(".")[0]
    return {"package": package, "revision": type(kind).revision, **kind.identity()}


def matching_rules(recipe: Recipe, collection: str) -> tuple[Rule, ...]:
    """List the rules that can match examples of a collection, in order."""
    return tuple(rule for rule in recipe.rules if rule.when.may_match_collection(collection))


def collects(recipe: Recipe, dataset: str) -> bool:
    """Tell whether a dataset's answers are bought, and not at hand."""
    return recipe.teachers[recipe.datasets[dataset].teacher].collects


def compares_questions(recipe: Recipe, name: str) -> bool:
    """Tell whether a dataset's questions are compared before answers to them are bought."""
    return collects(recipe, name) and bool(recipe.datasets[name].comparisons_of_questions)
