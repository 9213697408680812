"""The collections that datasets are drawn from, and the columns that these keep beside ours.

A condition on a column that no row can have holds for none of them, and under `not` for all: so a name that no
collection keeps is a fault of the recipe, told before anything is read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator

from orca_recipes.contract.conditions import EXTRA, parsed
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.rules import Rule
from orca_recipes.recipe.toml_lines import Path

_OF_EXAMPLES = ("options", "task", "category", "language", "reasoning")
"""What a strategy asks with that every example has a place for (`Strategy.columns`)."""

Kept = Callable[[str], Collection[str] | None]
"""Names the columns that a collection keeps, None where that is not known."""


def drawn_from(recipe: Recipe, mixtures: Iterable[str]) -> list[str]:
    """List the collections that mixtures take of, themselves or as parts of others, in recipe order."""
    open_to, seen = [*mixtures], set[str]()
    while open_to:
        name = open_to.pop()
        if name not in seen:
            seen.add(name)
            mixture = recipe.mixtures[name]
            open_to += [outer for outer in (mixture.from_, mixture.holdout_of) if outer is not None]
    drawn = {taken for name in seen for taken in recipe.mixtures[name].take}
    return [name for name in recipe.collections if name in drawn]


def unkept_columns(recipe: Recipe, kept: Kept | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the path of each filter and rule that names a column which no collection keeps for it, and a sentence.

    Args:
        kept: by default what sources say of themselves.
    """
    known = kept or (lambda name: recipe.collections[name].kept_columns())
    for name, dataset in recipe.datasets.items():
        drawn = drawn_from(recipe, [dataset.mixture])
        for place, kind in enumerate(dataset.filters):
            yield from _unkept(known, drawn, kind.extra_columns(), ("datasets", name, "filters", place))
    drawn = drawn_from(recipe, [dataset.mixture for dataset in recipe.datasets.values()])
    for place, rule in enumerate(recipe.rules):
        reached = [name for name in drawn if rule.when.may_match_collection(name)]
        yield from _unkept(known, reached, _asked_by(rule), ("rules", place, "when", "where"))
        named = recipe.strategies[rule.strategy].columns() or ()
        words = [word for word in named if word not in _OF_EXAMPLES]
        yield from _unkept(known, reached, words, ("rules", place, "strategy"))


def _asked_by(rule: Rule) -> list[str]:
    """List the kept columns that a rule chooses examples by."""
    names = parsed(rule.when.where).sorts() if rule.when.where is not None else ()
    return [name.removeprefix(EXTRA) for name in names if name.startswith(EXTRA)]


def _unkept(known: Kept, collections: Collection[str], names: Iterable[str], path: Path) -> Iterator[tuple[Path, str]]:
    kept: set[str] = set()
    names = tuple(names)
    for collection in collections if names else ():
        columns = known(collection)
        if columns is None:
            return
        kept |= {*columns}
    for name in names if collections else ():
        if name not in kept:
            whose = quoted(*collections) if len(collections) == 1 else f"any of {len(collections):,} collections"
            near = hint(name, kept) if kept else f"; sources keep it with extra = [{quoted(name)}]"
            yield path, f"no column {quoted(name)} is kept by {whose}{near}"
