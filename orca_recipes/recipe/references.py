"""Check the names mentioned in a recipe: each must exist in it.

A pass of its own over the tables, because a model-level validator is silent once a field fails; it passes by whatever
has the wrong shape, of which the grammar complains. What nobody uses is fine.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeGuard

from orca_recipes.contract.comparison import Comparison
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.message_digests import message_faults
from orca_recipes.recipe.model import Dataset, Recipe
from orca_recipes.recipe.rules import Rule
from orca_recipes.recipe.toml_lines import Path

Faults = Iterator[tuple[Path, str]]


def unknown_references(full: Mapping[str, Any], kinds: Kinds) -> Faults:
    """Yield the path of each name unknown to the filled-in recipe, and a sentence with the nearest known name."""
    yield from _alike(full, "collections", "names files of the store")
    yield from _in_mixtures(full)
    yield from _in_system_messages(full)
    yield from _in_rules(full, kinds)
    yield from _in_datasets(full, kinds)
    for name, teacher in _tables(full, "teachers"):
        yield from _one(full, "collections", "collection", teacher.get("collection"), ("teachers", name, "collection"))
    yield from _in_phases(full)
    yield from _in_paper(full)
    training = full.get("training")
    if isinstance(training, dict):
        yield from _one(full, "datasets", "dataset", training.get("validation"), ("training", "validation"))


def unknown_messages(
    rules: Sequence[Rule], datasets: Mapping[str, Dataset], texts: Mapping[str, Mapping[str, str]]
) -> Faults:
    """Yield the system messages named by rules and students but absent from their sets, once the texts are known.

    Args:
        texts: set to id to text.
    """
    named: list[tuple[Path, str]] = [
        (("rules", place, "system_messages", item), name)
        for place, rule in enumerate(rules)
        for item, name in enumerate(rule.system_messages)
    ]
    named += [
        (("datasets", name, "student", "system_message"), dataset.student.system_message)
        for name, dataset in datasets.items()
        if dataset.student.system_message is not None
    ]
    for path, name in named:
        chosen, slash, key = name.partition("/")
        if slash and key not in texts[chosen]:
            yield path, f"the system messages {quoted(chosen)} have no id {quoted(key)}{hint(key, texts[chosen])}"


def unknown_compared(recipe: Recipe) -> Faults:
    """Yield the collections and mixtures named by filters and missing from the recipe, and a mixture named that is the
    dataset's own."""
    for name, dataset in recipe.datasets.items():
        for place, kind in enumerate(dataset.filters):
            if not isinstance(kind, Comparison):
                continue
            path: Path = ("datasets", name, "filters", place, "against")
            for found in kind.collections():
                if found not in recipe.collections:
                    yield path, f"there is no collection {quoted(found)}{hint(found, recipe.collections)}"
            for found in kind.mixtures():
                if found not in recipe.mixtures:
                    yield path, f"there is no mixture {quoted(found)}{hint(found, recipe.mixtures)}"
                elif found == dataset.mixture:
                    yield path, f"{quoted(found)} is the dataset's own mixture, all of whose rows are like themselves"


def _in_mixtures(full: Mapping[str, Any]) -> Faults:
    for name, mixture in _tables(full, "mixtures"):
        take = mixture.get("take")
        for collection in take if isinstance(take, dict) else ():
            yield from _one(full, "collections", "collection", collection, ("mixtures", name, "take", collection))
        for other, path in _mixtures_named(name, mixture):
            yield from _one(full, "mixtures", "mixture", other, path)
        yield from _without_holdout(full, name, mixture.get("holdout_of"))
    yield from _cycles(full)


def _mixtures_named(name: str, mixture: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the mixtures named by `from`, `holdout_of` and `exclude` of a mixture, each with the path of its
    mention."""
    for key in ("from", "holdout_of"):
        if isinstance(mixture.get(key), str):
            yield mixture[key], ("mixtures", name, key)
    excluded = mixture.get("exclude")
    for item, other in enumerate(excluded if isinstance(excluded, list) else ()):
        if isinstance(other, str):
            yield other, ("mixtures", name, "exclude", item)


def _without_holdout(full: Mapping[str, Any], name: str, whole: Any) -> Faults:
    mixtures = full["mixtures"]
    if isinstance(whole, str) and isinstance(mixtures.get(whole), dict) and mixtures[whole].get("holdout") is None:
        yield (
            ("mixtures", name, "holdout_of"),
            f"mixture {quoted(whole)} sets nothing aside; give it `holdout = N`, a number of rows",
        )


def _cycles(full: Mapping[str, Any]) -> Faults:
    """Yield mixtures that need each other to be drawn first; each circle is told where its first mixture closes it."""
    edges = {name: list(_mixtures_named(name, mixture)) for name, mixture in _tables(full, "mixtures")}
    told: set[str] = set()
    for start in edges:
        found = _way_back(edges, start)
        if found is not None and not told & set(found[0]):
            told |= set(found[0])
            way = " -> ".join([*found[0], start])
            yield found[1], f"the mixtures go in a circle ({way}): each would have to be drawn before the other"


def _way_back(edges: Mapping[str, list[tuple[str, Path]]], start: str) -> tuple[list[str], Path] | None:
    """Find a circle of mixtures through `start`: its names from `start` on, and the path of the first mention; None if
    there is no circle."""
    waiting = [([start], path, other) for other, path in edges[start]]
    seen: set[str] = set()
    while waiting:
        way, path, here = waiting.pop()
        if here == start:
            return way, path
        if here not in seen:
            seen.add(here)
            waiting += [([*way, here], path, other) for other, _ in edges.get(here, ())]
    return None


def _in_system_messages(full: Mapping[str, Any]) -> Faults:
    """Yield sets whose texts stand in the recipe; those of the others are held against their digests while pinning."""
    for name, table in _tables(full, "system_messages"):
        yield from _one(
            full, "collections", "collection", table.get("collection"), ("system_messages", name, "collection")
        )
        messages, digests = table.get("messages"), table.get("digests", {})
        weights = table.get("weights", {})
        if not (_holds_texts(messages) and _holds_texts(digests) and isinstance(weights, dict)):
            continue
        for path, sentence in message_faults(messages, digests=digests, weights=weights):
            yield ("system_messages", name, *path), sentence


def _holds_texts(table: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(table, dict) and all(isinstance(value, str) for value in table.values())


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
            yield from _message(full, message, ("rules", place, "system_messages", item))


def _alike(full: Mapping[str, Any], table: str, what: str) -> Faults:
    """Refuse names that are one on a file system which is blind to case. what: how the names stand in it."""
    names: dict[str, str] = {}
    for name, _ in _tables(full, table):
        if (other := names.setdefault(name.casefold(), name)) != name:
            yield (table, name), f"{what}, and differs from {quoted(other)} in case alone; give it another name"


def _in_datasets(full: Mapping[str, Any], kinds: Kinds) -> Faults:
    yield from _alike(full, "datasets", "is a folder of the build")
    for name, dataset in _tables(full, "datasets"):
        yield from _one(full, "mixtures", "mixture", dataset.get("mixture"), ("datasets", name, "mixture"))
        yield from _named_kind(full, "teachers", dataset.get("teacher"), ("datasets", name, "teacher"), kinds)
        student = dataset.get("student")
        message = student.get("system_message") if isinstance(student, dict) else None
        yield from _message(full, message, ("datasets", name, "student", "system_message"))
        yield from _allowed_empty(full, dataset.get("allow_empty"), ("datasets", name, "allow_empty"))


def _allowed_empty(full: Mapping[str, Any], patterns: Any, path: Path) -> Faults:
    """Yield patterns that fit no collection; which tasks there are only the data say."""
    collections = [name for name, _ in _tables(full, "collections")]
    for item, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
        head = pattern.partition("/")[0] if isinstance(pattern, str) else "*"
        if not any(fnmatchcase(name, head) for name in collections):
            yield (*path, item), f"no collection fits {quoted(head)}{hint(head, collections)}"


def _in_phases(full: Mapping[str, Any]) -> Faults:
    for place, phase in _items(full.get("curriculum")):
        path: Path = ("curriculum", place)
        yield from _one(full, "datasets", "dataset", phase.get("dataset"), (*path, "dataset"))
        several = phase.get("datasets")
        if isinstance(several, list):
            for item, name in enumerate(several):
                yield from _one(full, "datasets", "dataset", name, (*path, "datasets", item))
        for name in several if isinstance(several, dict) else ():
            yield from _one(full, "datasets", "dataset", name, (*path, "datasets", name))
        training = phase.get("training")
        if isinstance(training, dict):
            yield from _one(full, "datasets", "dataset", training.get("validation"), (*path, "training", "validation"))


def _in_paper(full: Mapping[str, Any]) -> Faults:
    for name, told in _tables(full.get("paper", {}), "mixtures") if isinstance(full.get("paper"), dict) else ():
        yield from _one(full, "mixtures", "mixture", name, ("paper", "mixtures", name))
        for key in ("collections", "notes"):
            for collection in told.get(key, {}) if isinstance(told.get(key), dict) else ():
                path: Path = ("paper", "mixtures", name, key, collection)
                yield from _one(full, "collections", "collection", collection, path)


def _one(full: Mapping[str, Any], key: str, word: str, name: Any, path: Path) -> Faults:
    tables = full.get(key, {})
    if isinstance(name, str) and isinstance(tables, dict) and name not in tables:
        yield path, f"there is no {word} {quoted(name)}{hint(name, tables)}"


def _named_kind(full: Mapping[str, Any], key: str, name: Any, path: Path, kinds: Kinds) -> Faults:
    """Yield a fault for a strategy or teacher that names neither a table nor a kind; tables of known kinds are filled
    in already."""
    tables = full.get(key, {})
    if isinstance(name, str) and isinstance(tables, dict) and name not in tables:
        yield path, kinds.no_such_kind(f"orca_{key}", name, tables=tables)


def _message(full: Mapping[str, Any], name: Any, path: Path) -> Faults:
    sets = full.get("system_messages", {})
    if not isinstance(name, str) or not isinstance(sets, dict):
        return
    chosen, slash, key = name.partition("/")
    if chosen not in sets:
        yield path, f"there is no set of system messages {quoted(chosen)}{hint(chosen, sets)}"
        return
    table = sets[chosen] if isinstance(sets[chosen], dict) else {}
    messages = table.get("digests" if table.get("kind") == "column" else "messages")
    if isinstance(messages, dict) and messages and slash and key not in messages:
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
