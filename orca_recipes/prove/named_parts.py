"""What records tell of strategies, teachers and erased prompts, against what the build's recipe says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from orca_recipes.contract.spelling import quoted
from orca_recipes.counted import counted
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


def check_views(promised: Manifest, dataset: str, prefix: str, records: Records) -> Iterator[Finding]:
    """Check that each record of a shard tells its teacher's prompt where the recipe erases it, and none elsewhere."""
    views = records.table["teacher_view"]
    missing, file = views.null_count, records_path(Path(prefix)).as_posix()
    if _erases(promised, dataset):
        if missing:
            told = f"{counted(missing, 'record')} of {len(views):,}"
            yield Finding(file, f"{told} do not tell what the teacher was asked, which the recipe erases")
    elif missing < len(views):
        yield Finding(file, "it tells what the teacher was asked, and the recipe erases nothing")


def _erases(promised: Manifest, dataset: str) -> bool:
    table = _dataset_table(promised, dataset)
    student = table.get("student")
    return isinstance(student, Mapping) and student.get("erase") is True


def _dataset_table(promised: Manifest, dataset: str) -> Mapping[str, object]:
    tables = promised.recipe.get("datasets")
    table = tables.get(dataset) if isinstance(tables, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def _named(promised: Manifest, dataset: str) -> dict[str, set[object]]:
    """Return the names that may stand in a column, by column; a column of which the recipe says nothing is left out."""
    found: dict[str, set[object]] = {}
    rules = promised.recipe.get("rules")
    if not rules:
        found["strategy"] = {_WITHOUT_RULES}
    elif isinstance(rules, list):
        found["strategy"] = {rule.get("strategy") for rule in rules if isinstance(rule, Mapping)}
    table = _dataset_table(promised, dataset)
    if isinstance(table.get("teacher"), str):
        found["teacher"] = {table["teacher"]}
    return found
