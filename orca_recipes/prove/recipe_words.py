"""Facts that a manifest states twice: in the words of its recipe, and of the build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orca_recipes.contract.spelling import quoted
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.manifest import NAME, Manifest


def check_words(promised: Manifest) -> Iterator[Finding]:
    """Hold the manifest's name, length of rows and plan against its recipe."""
    recipe = promised.recipe
    if recipe.get("name", promised.name) != promised.name:
        yield Finding(NAME, f"it is named {quoted(promised.name)}, and its recipe otherwise")
    packing = recipe.get("packing")
    asked = packing.get("row_tokens", promised.row_tokens) if isinstance(packing, Mapping) else promised.row_tokens
    if asked != promised.row_tokens:
        yield Finding(NAME, f"its rows have {promised.row_tokens} tokens, and its recipe asks for {asked}")
    for stage in promised.plan:
        if stage.name.partition(" ")[0] != stage.verb:
            yield Finding(NAME, f"stage {quoted(stage.name)} of its plan is called {quoted(stage.verb)}")
