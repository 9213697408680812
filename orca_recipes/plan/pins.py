"""The pins of a lock: every moving name of a recipe, as plain data.

Pins feed the plan; outcomes of a build stand beside them in the lock and never do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.plugins import PluginPin, plugin_differences

Held = TypeVar("Held")

_NOUNS = {dict: "a table", list: "a list", str: "a text", int: "an integer"}


@dataclass(frozen=True)
class FilePin:
    """One file by content: `name` as records call it, size, and "blake3:<64 hex>" ("blake2b:" in older locks)."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class SourcePin:
    """The files that a source reads, and the versions of its generators of rows."""

    files: tuple[FilePin, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """Return the digests of its files, by name."""
        return {file.name: file.digest for file in self.files}


@dataclass(frozen=True)
class MessagePin:
    """A set of system messages: id to SHA-256 of the text, never a text; revision: the hub's commit, else None."""

    digests: Mapping[str, str]
    revision: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"digests": dict(self.digests), **({"revision": self.revision} if self.revision else {})}


@dataclass(frozen=True)
class Pins:
    """All pins of a recipe.

    tokenizer: files before and, as `tokenizer_digest`, what they were resolved to. template: digest of its markup.
    kinds: "hook:name" to the revision whose output they stand for.
    system_messages: of each set that is used, the digests of its texts.
    plugins: the distributions other than ours whose kinds are used, by name.
    extends: the recipes that it is laid over, the nearest first.
    """

    collections: Mapping[str, SourcePin]
    tokenizer: SourcePin
    tokenizer_digest: str
    template: str
    kinds: Mapping[str, int]
    system_messages: Mapping[str, MessagePin] = field(default_factory=dict)
    plugins: Mapping[str, PluginPin] = field(default_factory=dict)
    extends: tuple[FilePin, ...] = ()

    def as_json(self) -> dict[str, Any]:
        sets = {name: pin.as_json() for name, pin in self.system_messages.items()}
        plugins = {name: pin.as_json() for name, pin in self.plugins.items()}
        return {
            **({"extends": [_file_as_json(file) for file in self.extends]} if self.extends else {}),
            **({"plugins": plugins} if plugins else {}),
            **({"system_messages": sets} if sets else {}),
            "collections": {name: _as_json(pin) for name, pin in self.collections.items()},
            "tokenizer": _as_json(self.tokenizer) | {"digest": self.tokenizer_digest},
            "template": self.template,
            "kinds": dict(self.kinds),
        }

    def digest(self) -> str:
        return "blake2b:" + digest_of(self.as_json())


def pins_from_json(table: Mapping[str, Any]) -> Pins:
    """Read pins from a lock's `[pins]` table. Raises: KeyError or TypeError where it does not hold them."""
    tokenizer = _held(table, "tokenizer", dict)
    collections, kinds = _held(table, "collections", dict), _held(table, "kinds", dict)
    sets = _held(table, "system_messages", dict) if "system_messages" in table else {}
    plugins = _held(table, "plugins", dict) if "plugins" in table else {}
    return Pins(
        collections={name: _source_pin(_held(collections, name, dict)) for name in collections},
        tokenizer=_source_pin(tokenizer),
        tokenizer_digest=_held(tokenizer, "digest", str),
        template=_held(table, "template", str),
        kinds={name: _held(kinds, name, int) for name in kinds},
        system_messages={name: _message_pin(_held(sets, name, dict)) for name in sets},
        plugins={name: _plugin_pin(_held(plugins, name, dict)) for name in plugins},
        extends=tuple(_file_pin(file) for file in _held(table, "extends", list)) if "extends" in table else (),
    )


def differences(before: Pins, after: Pins) -> list[str]:
    """List the changes between two pinnings, pin by pin, in sentences."""
    found = list(plugin_differences(before.plugins, after.plugins))
    found += _source_differences("extends", SourcePin(before.extends), SourcePin(after.extends))
    for name in sorted({*before.collections, *after.collections}):
        if name not in after.collections:
            found.append(f"collections.{name}: the lock pins it, the recipe has it no longer")
        elif name not in before.collections:
            found.append(f"collections.{name}: the recipe has it, the lock does not pin it")
        else:
            found += _source_differences(f"collections.{name}", before.collections[name], after.collections[name])
    found += _source_differences("tokenizer", before.tokenizer, after.tokenizer)
    # Other files explain other ids already: one sentence, and the one that can be acted upon.
    if not any(line.startswith("tokenizer") for line in found) and before.tokenizer_digest != after.tokenizer_digest:
        found.append("tokenizer: its options give other ids than those that were locked")
    if before.template != after.template:
        found.append("template: it prints other texts around messages than those that were locked")
    for name in sorted({*before.system_messages, *after.system_messages}):
        if before.system_messages.get(name) != after.system_messages.get(name):
            found.append(f"system_messages.{name}: its texts are not those that were locked, or are used otherwise")
    for name in sorted({*before.kinds, *after.kinds}):
        old, new = before.kinds.get(name), after.kinds.get(name)
        if old != new:
            found.append(f"kinds.{name}: revision {old or 'none'} is locked, {new or 'none'} is installed or chosen")
    return found


def _as_json(pin: SourcePin) -> dict[str, Any]:
    return {
        "files": [_file_as_json(file) for file in pin.files],
        "versions": dict(pin.versions),
    }


def _file_as_json(file: FilePin) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.bytes, "digest": file.digest}


def _source_pin(table: Mapping[str, Any]) -> SourcePin:
    versions = _held(table, "versions", dict)
    return SourcePin(
        files=tuple(_file_pin(file) for file in _held(table, "files", list)),
        versions={name: _held(versions, name, str) for name in versions},
    )


def _message_pin(table: Mapping[str, Any]) -> MessagePin:
    digests = _held(table, "digests", dict)
    revision = _held(table, "revision", str) if "revision" in table else None
    return MessagePin({name: _held(digests, name, str) for name in digests}, revision)


def _plugin_pin(table: Mapping[str, Any]) -> PluginPin:
    kinds = _held(table, "kinds", dict)
    held = {name: _held(kinds, name, str) for name in kinds}
    return PluginPin(_held(table, "version", str), _held(table, "digest", str), held)


def _file_pin(file: Any) -> FilePin:
    if not isinstance(file, dict):
        raise TypeError("a table for each of its files")
    return FilePin(_held(file, "name", str), _held(file, "bytes", int), _held(file, "digest", str))


def _held(table: Mapping[str, Any], key: str, kind: type[Held]) -> Held:
    """Return a value of a table if it has the right type: locks are edited by hand and merged by machines."""
    value = table[key]
    # Not isinstance, for which True is an int.
    if type(value) is not kind:
        raise TypeError(f"{key}, as {_NOUNS[kind]}")
    return value


def _source_differences(where: str, before: SourcePin, after: SourcePin) -> list[str]:
    old = {file.name: file for file in before.files}
    new = {file.name: file for file in after.files}
    found = [f"{where}: the file {name} is locked and gone" for name in old if name not in new]
    found += [f"{where}: the file {name} is new and not locked" for name in new if name not in old]
    found += [
        f"{where}: the file {name} has other content ({old[name].bytes} bytes are locked, {new[name].bytes} are there)"
        for name in old
        if name in new and old[name] != new[name]
    ]
    for name in sorted({*before.versions, *after.versions}):
        locked, found_version = before.versions.get(name), after.versions.get(name)
        if locked != found_version:
            found.append(f"{where}: {name} {locked or 'nothing'} is locked, {found_version or 'nothing'} is installed")
    return found
