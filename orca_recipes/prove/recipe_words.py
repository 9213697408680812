"""Facts that a manifest states twice: in the words of its recipe, and of the build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orca_recipes.contract.spelling import quoted
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.manifest import NAME, Manifest, StageIdentity

_HOOKS = {"tokenizer": "tokenizers", "template": "templates", "packing": "packers", "output": "writers"}
_TABLES = {"tokenizer": "tokenizer", "template": "template", "pack": "packing", "write": "output"}
"""Verbs whose kind one table of the recipe says."""


def check_words(promised: Manifest) -> Iterator[Finding]:
    """Hold the manifest's name, length of rows and plan against its recipe."""
    recipe = promised.recipe
    if recipe.get("name", promised.name) != promised.name:
        yield Finding(NAME, f"it is named {quoted(promised.name)}, and its recipe otherwise")
    packing = recipe.get("packing")
    asked = packing.get("row_tokens", promised.row_tokens) if isinstance(packing, Mapping) else promised.row_tokens
    if asked != promised.row_tokens:
        yield Finding(NAME, f"its rows have {promised.row_tokens} tokens, and its recipe asks for {asked}")
    for stage, hook, kind in _kinds_told(promised):
        if kind is not None and stage.kind != f"{hook}:{kind}":
            told = f"stage {quoted(stage.name)} of its plan is by {stage.kind}"
            yield Finding(NAME, f"{told}, and its recipe says {kind}")
    for stage in promised.plan:
        if stage.name.partition(" ")[0] != stage.verb:
            yield Finding(NAME, f"stage {quoted(stage.name)} of its plan is called {quoted(stage.verb)}")


def _kinds_told(promised: Manifest) -> Iterator[tuple[StageIdentity, str, str | None]]:
    """Yield the stages whose kind a table of the recipe says, with its hook and kind; None where it is left out."""
    collections = promised.recipe.get("collections")
    for stage in promised.plan:
        if stage.verb == "read" and isinstance(collections, Mapping):
            yield stage, "sources", _kind_in(collections.get(stage.name.partition(" ")[2]))
        elif stage.verb in _TABLES:
            table = _TABLES[stage.verb]
            yield stage, _HOOKS[table], _kind_in(promised.recipe.get(table))


def _kind_in(table: object) -> str | None:
    """Return the kind that a table says, without the package that offers it."""
    kind = table.get("kind") if isinstance(table, Mapping) else table
    return kind.rpartition(":")[2] if isinstance(kind, str) else None
