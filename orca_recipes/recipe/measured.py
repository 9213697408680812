"""Token counts behind a mixture's shares, and whether they are known before the draw.

Whole conversations can be counted where their answers are there already. Where a teacher is asked, what is asked is
decided by the very draw that would have to count the answers.
"""

from collections.abc import Iterator

from orca_recipes.contract.spelling import quoted
from orca_recipes.recipe.mixtures import Mixture
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.toml_lines import Path

UNITS = {"question": "tokens of questions", "conversation": "tokens of conversations", "trained": "trained tokens"}
"""What `tokens_of` counts, for people."""


def counts_answers(mixture: Mixture) -> bool:
    """Tell whether a mixture's shares count tokens of answers."""
    return mixture.tokens is not None and mixture.tokens_of != "question"


def datasets_taking(recipe: Recipe, name: str) -> tuple[str, ...]:
    """List the datasets of a mixture, or of a part of it, in recipe order."""
    return tuple(dataset for dataset, chosen in recipe.datasets.items() if name in _line(recipe, chosen.mixture))


def unmeasurable(recipe: Recipe) -> Iterator[tuple[Path, str]]:
    """Yield the path of each `tokens_of` whose count is unknown before the draw, and a sentence."""
    for name, mixture in recipe.mixtures.items():
        if not counts_answers(mixture):
            continue
        path: Path = ("mixtures", name, "tokens_of")
        datasets = datasets_taking(recipe, name)
        if not datasets:
            yield path, f'no dataset takes mixture {quoted(name)}, so nothing says what its rows become; say "question"'
        for dataset in datasets:
            teacher = recipe.datasets[dataset].teacher
            if recipe.teachers[teacher].collects:
                yield (
                    path,
                    f"{UNITS[mixture.tokens_of]} are not known before the draw: dataset {quoted(dataset)} asks teacher "
                    f'{quoted(teacher)} for its answers afterwards; say tokens_of = "question", or give answers that '
                    'were bought already by a teacher of kind = "replay"',
                )


def _line(recipe: Recipe, mixture: str) -> tuple[str, ...]:
    """Return the names of a mixture and of those it is a part of, innermost first."""
    found = [mixture]
    while (outer := recipe.mixtures[found[-1]].from_) is not None and outer not in found:
        found.append(outer)
    return tuple(found)
