"""The texts of system messages that a recipe names without holding them: looked up while pinning, never in the plan.

A lock keeps a digest of each text, so two people who have the same data train on the same words, and nothing that is
committed beside a recipe repeats a paper's wording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_recipes.contract.kinds import Source
from orca_recipes.contract.spelling import quoted
from orca_recipes.contract.toml_text import toml_table
from orca_recipes.errors import SourceError, StoreError
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.pins import MessagePin, Pins, SourcePin
from orca_recipes.plan.plugins import PluginPin, plugins_of
from orca_recipes.recipe import toml_lines
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.message_digests import described, message_faults, relatives, text_digest
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.references import unknown_messages
from orca_recipes.recipe.rules import SystemMessages
from orca_recipes.run.pinning.message_columns import (
    collection_values,
    column_files,
    hub_commit,
    hub_values,
    local_values,
)
from orca_recipes.run.work.blame import placed
from orca_recipes.store.sealed import read_sealed, write_sealed
from orca_recipes.store.source_digests import FileDigests
from orca_recipes.store.store import Store

# Short enough to type, and two texts of a column that begin alike are told by all digits.
_ID_DIGITS = 8

Faults = list[tuple[toml_lines.Path, str]]


@dataclass(frozen=True)
class Texts:
    """A recipe with the texts of all its sets of system messages, and the pins of the used ones."""

    recipe: Recipe
    pins: Mapping[str, MessagePin]


def look_up(
    loaded: LoadedRecipe,
    store: Store,
    *,
    plugins: Mapping[str, PluginPin] | None = None,
    locked: Pins | None = None,
    rehash: bool = False,
) -> Texts:
    """Find the texts of every set that a rule or a student names.

    Args:
        plugins: the pins of the plugins of strangers, whose sources may hold texts.
        locked: the pins of the lock; their revision is used where the hub cannot be reached.
    Raises: RecipeError with the lines of digests, weights and ids that the texts do not bear out; SourceError.
    """
    recipe, faults = loaded.recipe, Faults()
    sets, pins = dict(recipe.system_messages), {}
    for name in recipe.used_system_messages():
        with placed(f"system_messages.{name}"):
            found, revision = _texts(recipe, name, store, plugins or {}, locked, rehash)
        faults += [(("system_messages", name, *path), said) for path, said in _faults(sets[name], found)]
        sets[name] = sets[name].model_copy(update={"messages": found})
        pins[name] = MessagePin({key: text_digest(text) for key, text in found.items()}, revision)
    texts = {name: dict(sets[name].messages or {}) for name in pins}
    faults += unknown_messages(recipe.rules, recipe.datasets, texts)
    if faults:
        raise loaded.fault(faults)
    return Texts(recipe.model_copy(update={"system_messages": sets}), pins)


def _faults(chosen: SystemMessages, texts: Mapping[str, str]) -> Iterator[tuple[toml_lines.Path, str]]:
    for path, sentence in message_faults(texts, digests=chosen.digests, weights=chosen.weights):
        if chosen.kind != "column" or path[0] != "digests":
            yield path, sentence
    if chosen.kind == "column":
        for name, digest in chosen.digests.items():
            if name not in texts:
                yield ("digests", name), f"no text of column {quoted(chosen.column or '')} is {described(digest)}"


def _texts(
    recipe: Recipe,
    name: str,
    store: Store,
    plugins: Mapping[str, PluginPin],
    locked: Pins | None,
    rehash: bool,
) -> tuple[dict[str, str], str | None]:
    chosen = recipe.system_messages[name]
    if chosen.kind == "inline":
        return dict(chosen.messages or {}), None
    if chosen.kind == "file":
        assert chosen.path is not None, "the grammar asks for it"
        return _of_file(name, chosen.path), None
    if chosen.collection is not None:
        source = recipe.collections[chosen.collection]
        held = locked.collections.get(chosen.collection, SourcePin()).digests if locked is not None else {}
        return _chosen(name, chosen, _of_collection(name, chosen, source, store, plugins, held, rehash)), None
    values, revision = _values(name, chosen, store, locked, rehash)
    return _chosen(name, chosen, values), revision


def _of_file(name: str, path: Path) -> dict[str, str]:
    where = f"system_messages.{name}: {path}"
    try:
        # Editors on Windows put a byte order mark first, which tomllib refuses.
        table = toml_table(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{where}: it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: it is not TOML ({error})") from error
    messages = table.get("messages")
    if not isinstance(messages, dict) or not messages or not all(isinstance(text, str) for text in messages.values()):
        raise SourceError(f'{where}: it needs a table [messages] of texts by id, as in  brief = "Answer briefly."')
    return dict(messages)


def _chosen(name: str, chosen: SystemMessages, values: list[str]) -> dict[str, str]:
    """Return ids for the texts of a column: those of the digests, else the first digits of each text's own digest,
    or all of them where two texts begin alike."""
    by_digest = {text_digest(text): text for text in values}
    if not chosen.digests:
        begun = Counter(digest[:_ID_DIGITS] for digest in by_digest)
        names = {digest: digest[: _ID_DIGITS if begun[digest[:_ID_DIGITS]] == 1 else None] for digest in by_digest}
        return {names[digest]: by_digest[digest] for digest in sorted(by_digest)}
    for key, digest in chosen.digests.items():
        other = next((known for known in relatives(digest) if known in by_digest), None)
        if digest not in by_digest and other is not None:
            raise SourceError(
                f"system_messages.{name}.digests.{key}: no text of column {quoted(chosen.column or '')} is "
                f"{described(digest)}; the column has {described(other)}: ask for that one ({other}) if it will do"
            )
    return {key: by_digest[digest] for key, digest in chosen.digests.items() if digest in by_digest}


def _values(
    name: str, chosen: SystemMessages, store: Store, locked: Pins | None, rehash: bool
) -> tuple[list[str], str | None]:
    """Look up the column's distinct values, kept in the store under a digest of their origin; and the hub's commit."""
    assert chosen.column is not None, "the grammar asks for it"
    wanted = frozenset(chosen.digests.values())
    if chosen.path is not None:
        files = column_files(chosen.path)
        pins = [[pin.name, pin.digest] for pin in FileDigests(store.root / "digests.sqlite", rehash=rehash).pin(files)]
        path, column = _kept_at(store, [pins, chosen.column, sorted(wanted)]), chosen.column
        return _kept(path) or _keep(path, local_values(files, column=column, wanted=wanted)), None
    assert chosen.hub is not None, "the grammar asks for one of them"
    commit = _commit(name, chosen, locked)
    path = _kept_at(store, [chosen.hub, commit, chosen.column, sorted(wanted)])
    found = _kept(path)
    if found is None:
        found = _keep(path, hub_values(chosen.hub, commit=commit, column=chosen.column, wanted=wanted))
    return found, commit


def _of_collection(
    name: str,
    chosen: SystemMessages,
    source: Source,
    store: Store,
    plugins: Mapping[str, PluginPin],
    held: Mapping[str, str],
    rehash: bool,
) -> list[str]:
    """Look up the distinct values of a collection's column, kept in the store as those of other columns."""
    assert chosen.column is not None, "the grammar asks for it"
    wanted = frozenset(chosen.digests.values())
    digests = FileDigests(store.root / "digests.sqlite", rehash=rehash)
    pins = [[pin.name, pin.digest] for pin in digests.pin(source.files(), held)]
    read = [source.identity(), type(source).revision, dict(source.pins())]
    strangers = plugins_of([source], plugins)
    read += [strangers] if strangers else []
    path = _kept_at(store, [read, pins, chosen.column, sorted(wanted)])
    found = _kept(path) or _keep(path, collection_values(source, column=chosen.column, wanted=wanted))
    if not found:
        raise SourceError(
            f"system_messages.{name}.column: collection {quoted(chosen.collection or '')} has no texts in a column "
            f"{quoted(chosen.column)}; name one of ours (as in `columns`: system), or keep it by its `extra`"
        )
    return found


def _commit(name: str, chosen: SystemMessages, locked: Pins | None) -> str:
    """Choose the commit to read: a full one as given, else the hub's, else the lock's."""
    assert chosen.hub is not None, "the grammar asks for it"
    # A full commit never moves, so the hub need not be asked.
    if chosen.revision is not None and len(chosen.revision) == 40 and set(chosen.revision) <= set("0123456789abcdef"):
        return chosen.revision
    before = locked.system_messages.get(name) if locked is not None else None
    try:
        return hub_commit(chosen.hub, chosen.revision)
    except SourceError:
        if before is None or before.revision is None:
            raise
        return before.revision


def _kept_at(store: Store, origin: Any) -> Path:
    return store.root / "messages" / f"{digest_of({'origin': origin})[:32]}.json"


def _kept(path: Path) -> list[str] | None:
    try:
        return list(read_sealed(path)["values"])
    except StoreError:
        return None


def _keep(path: Path, values: list[str]) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, {"values": values})
    return values
