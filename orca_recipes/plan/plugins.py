"""Plugins of other packages whose kinds decide bytes: their pins in the lock, and their part of a fingerprint.

Our own kinds are known by their revisions, which our tests guard. Nobody guards a stranger's, so his kinds are known by
their distribution, its version and a digest of its files: whatever is changed in them, they are others.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.pieces import piece_of_kind


@dataclass(frozen=True)
class PluginPin:
    """A distribution other than ours, with kinds that decide bytes.

    digest: of its files. kinds: those that a recipe uses, "filters:no_shouting" to "module:Class".
    """

    version: str
    digest: str
    kinds: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def kind_key(kind: Kind) -> str:
    """Return a kind's name in plans and locks: "filters:no_shouting"."""
    return f"{piece_of_kind(type(kind)).hook.removeprefix('orca_')}:{kind.kind}"


def class_name(kind: type[Kind]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def plugins_of(kinds: Iterable[Kind], plugins: Mapping[str, PluginPin]) -> dict[str, Any]:
    """Select the plugins of these kinds, each with the facts that decide its output, as JSON values."""
    if not plugins:
        return {}
    wanted = {(kind_key(kind), class_name(type(kind))) for kind in kinds}
    found = {}
    for name, pin in plugins.items():
        used = {key: target for key, target in pin.kinds.items() if (key, target) in wanted}
        if used:
            found[name] = PluginPin(pin.version, pin.digest, used).as_json()
    return found


def plugin_differences(before: Mapping[str, PluginPin], after: Mapping[str, PluginPin]) -> Iterator[str]:
    """Yield the differences between the locked and the installed plugins, in sentences."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        where = f"plugins.{name}"
        if old is None and new is not None:
            yield f"{where}: {_offers(name, new)} here, and the lock {_locked_instead(before, new)}"
        elif new is None and old is not None:
            if not any(set(old.kinds) & set(other.kinds) for other in after.values()):
                yield f"{where}: the lock pins it, the recipe uses it no longer"
        elif old is not None and new is not None:
            yield from _pin_differences(where, old, new)


def _pin_differences(where: str, old: PluginPin, new: PluginPin) -> Iterator[str]:
    if old.version != new.version:
        yield f"{where}: version {old.version} is locked, {new.version} is installed"
    elif old.digest != new.digest:
        yield f"{where}: {told_version(old.version)}is locked with other files than those that are installed"
    elif old.kinds != new.kinds:
        told = (", ".join(f"{key} ({target})" for key, target in sorted(pin.kinds.items())) for pin in (old, new))
        yield "{}: {} is locked, {} is used".format(where, *told)


def told_version(version: str) -> str:
    """Write a version within a sentence; a kind that no distribution offers has none."""
    return f"version {version} " if version else "it "


def _offers(name: str, pin: PluginPin) -> str:
    return f"{name} {pin.version}".rstrip() + f" offers {', '.join(sorted(pin.kinds))}"


def _locked_instead(before: Mapping[str, PluginPin], new: PluginPin) -> str:
    others = [
        f"{name} {pin.version}".rstrip() for name, pin in sorted(before.items()) if set(pin.kinds) & set(new.kinds)
    ]
    return f"pins {' and '.join(others)} for that" if others else "does not pin it"
