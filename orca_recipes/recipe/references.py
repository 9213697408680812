"""Whether every name that a recipe mentions is one that it has.

A pass of its own over the tables, because a model-level validator is silent once a field fails; it passes by whatever
has the wrong shape, of which the grammar complains. What nobody uses is fine.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.lines import Path

Faults = Iterator[tuple[Path, str]]


def unknown_references(full: Mapping[str, Any], kinds: Kinds) -> Faults:
    """The path of each name that nothing in the filled-in recipe has, and a sentence with the nearest that it has."""
    yield from _in_mixtures(full)
    yield from _in_rules(full, kinds)
    yield from _in_datasets(full, kinds)
    for place, phase in _items(full.get("curriculum")):
        yield from _one(full, "datasets", "dataset", phase.get("dataset"), ("curriculum", place, "dataset"))


def _in_mixtures(full: Mapping[str, Any]) -> Faults:
    for name, mixture in _tables(full, "mixtures"):
        take = mixture.get("take")
        for collection in take if isinstance(take, dict) else ():
            yield from _one(full, "collections", "collection", collection, ("mixtures", name, "take", collection))


def _in_rules(full: Mapping[str, Any], kinds: Kinds) -> Faults:
    for place, rule in _items(full.get("rules")):
        yield from _named_kind(full, "strategies", rule.get("strategy"), ("rules", place, "strategy"), kinds)
        when = rule.get("when")
        collections = when.get("collection") if isinstance(when, dict) else None
        path: Path = ("rules", place, "when", "collection")
        if isinstance(collections, list):
            for item, collection in enumerate(collections):
                yield from _one(full, "collections", "collection", collection, (*path, item))
        else:
            yield from _one(full, "collections", "collection", collections, path)
        messages = rule.get("system_messages")
        for item, message in enumerate(messages if isinstance(messages, list) else ()):
            yield from _message(full, message, ("rules", place, "system_messages", item), may_be_all=True)


def _in_datasets(full: Mapping[str, Any], kinds: Kinds) -> Faults:
    for name, dataset in _tables(full, "datasets"):
        yield from _one(full, "mixtures", "mixture", dataset.get("mixture"), ("datasets", name, "mixture"))
        yield from _named_kind(full, "teachers", dataset.get("teacher"), ("datasets", name, "teacher"), kinds)
        student = dataset.get("student")
        message = student.get("system_message") if isinstance(student, dict) else None
        yield from _message(full, message, ("datasets", name, "student", "system_message"), may_be_all=False)


def _one(full: Mapping[str, Any], key: str, word: str, name: Any, path: Path) -> Faults:
    tables = full.get(key, {})
    if isinstance(name, str) and isinstance(tables, dict) and name not in tables:
        yield path, f"there is no {word} {quoted(name)}{hint(name, tables)}"


def _named_kind(full: Mapping[str, Any], key: str, name: Any, path: Path, kinds: Kinds) -> Faults:
    """A strategy or a teacher: a table, or the kind that such a table would have (filled in, where it exists)."""
    tables = full.get(key, {})
    if isinstance(name, str) and isinstance(tables, dict) and name not in tables:
        yield path, kinds.no_such_kind(f"orca_{key}", name, tables=tables)


def _message(full: Mapping[str, Any], name: Any, path: Path, *, may_be_all: bool) -> Faults:
    sets = full.get("system_messages", {})
    if not isinstance(name, str) or not isinstance(sets, dict):
        return
    chosen, slash, key = name.partition("/")
    if chosen not in sets:
        yield path, f"there is no set of system messages {quoted(chosen)}{hint(chosen, sets)}"
        return
    messages = sets[chosen].get("messages") if isinstance(sets[chosen], dict) else None
    if not isinstance(messages, dict):
        return
    if not slash and not may_be_all:
        yield path, f'must name one message, as "set/id"{hint(name, [f"{chosen}/{known}" for known in messages])}'
    elif slash and key not in messages:
        yield path, f"the system messages {quoted(chosen)} have no id {quoted(key)}{hint(key, messages)}"


def _tables(full: Mapping[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    tables = full.get(key)
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if isinstance(table, dict):
            yield name, table


def _items(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, dict):
            yield place, item
