"""Names of strategies and teachers in records, against those that the build's recipe names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from orca_recipes.contract.spelling import quoted
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.layout import records_path
from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.records import Records

_WITHOUT_RULES = "direct"
"""The strategy of a recipe that has no rules."""


def check_names(promised: Manifest, dataset: str, prefix: str, records: Records) -> Iterator[Finding]:
    """Check that the records of a shard name no strategy or teacher that the recipe does not."""
    for column, known in _named(promised, dataset).items():
        others = sorted({*records.table[column].unique().to_pylist()} - known - {"", None})
        if others:
            file = records_path(Path(prefix)).as_posix()
            yield Finding(file, f"it names {column} {quoted(others[0])}, which the recipe does not")


def _named(promised: Manifest, dataset: str) -> dict[str, set[object]]:
    """Return the names that may stand in a column, by column; a column of which the recipe says nothing is left out."""
    found: dict[str, set[object]] = {}
    rules = promised.recipe.get("rules")
    if not rules:
        found["strategy"] = {_WITHOUT_RULES}
    elif isinstance(rules, list):
        found["strategy"] = {rule.get("strategy") for rule in rules if isinstance(rule, Mapping)}
    tables = promised.recipe.get("datasets")
    table = tables.get(dataset) if isinstance(tables, Mapping) else None
    if isinstance(table, Mapping) and isinstance(table.get("teacher"), str):
        found["teacher"] = {table["teacher"]}
    return found
