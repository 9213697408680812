"""Allowed licences of a recipe's sources, checked against the licence that each collection declares.

A recipe says the licence of a source; nothing is looked up, and nothing is guessed of a name. Only collections that
some dataset is drawn from are held to the list: benchmarks that rows are compared with are trained by nobody.
An archive passes on what it packs, benchmarks too, so that every collection is held to the list of those to share.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from orca_recipes.contract.spelling import quoted
from orca_recipes.recipe.drawn import drawn_from
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.toml_lines import Path


def unlicensed(recipe: Recipe) -> Iterator[tuple[Path, str]]:
    """Yield the path of each collection drawn from whose licence is not allowed, and a sentence."""
    if recipe.licenses is None or recipe.licenses.allow is None:
        return
    allowed = recipe.licenses.allow
    for name in drawn_from(recipe, (dataset.mixture for dataset in recipe.datasets.values())):
        said = recipe.collections[name].license
        listed = ", ".join(map(quoted, allowed))
        if said is None:
            sentence = f'its licence is not said, and [licenses] allows {listed} alone; say license = "..."'
            yield ("collections", name), sentence
        elif not _is_among(said, allowed):
            sentence = (
                f"its licence {quoted(said)} is none that [licenses] allows ({listed}); allow it, or leave it out"
            )
            yield ("collections", name, "license"), sentence


def not_shared(recipe: Recipe) -> list[str]:
    """List the collections whose licence `[licenses] share` does not pass on; none without that list."""
    if recipe.licenses is None or recipe.licenses.share is None:
        return []
    shared = recipe.licenses.share
    return [
        name for name, one in recipe.collections.items() if one.license is None or not _is_among(one.license, shared)
    ]


def _is_among(said: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(said.casefold(), pattern.casefold()) for pattern in patterns)
