"""Pin the plugins of strangers that a recipe uses: version, and a digest of the files as they are now."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from types import ModuleType

from orca_recipes.contract.kinds import Kind, SourceFile
from orca_recipes.contract.pieces import Offer
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.plugins import PluginPin, class_name, kind_key
from orca_recipes.plan.used_parts import used_kinds
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.run.pinning.plugin_files import plugin_files
from orca_recipes.store.source_digests import FileDigests

_OURS = "orca-recipes"
# Ours have revisions, which tests guard, in place of digests of their files.
_OUR_PACKAGES = {"orca_recipes", "orca_plugins"}


def pin_plugins(loaded: LoadedRecipe, digests: FileDigests) -> dict[str, PluginPin]:
    """Pin the distributions other than ours whose kinds decide bytes of a build, by name.

    Raises: SourceError where a file of one cannot be read, or changes meanwhile.
    """
    offered: dict[Offer, dict[str, type[Kind]]] = {}
    for kind in _deciding(loaded):
        for offer in loaded.chosen.get(type(kind), ()):
            if offer.distribution != _OURS:
                owner = Offer("", "", "", offer.distribution, offer.version)
                offered.setdefault(owner, {})[kind_key(kind)] = type(kind)
    return {
        owner.distribution: _pin(owner, kinds, digests)
        for owner, kinds in sorted(offered.items(), key=lambda found: found[0].distribution)
    }


def _deciding(loaded: LoadedRecipe) -> Iterator[Kind]:
    recipe = loaded.recipe
    yield from used_kinds(recipe)
    yield from (recipe.collections[name] for name in recipe.message_collections())


def _pin(owner: Offer, kinds: Mapping[str, type[Kind]], digests: FileDigests) -> PluginPin:
    distribution = metadata.distribution(owner.distribution) if owner.version else None
    files = plugin_files(distribution, list(dict.fromkeys(_modules(kinds.values()))))
    pins = digests.pin([SourceFile(name, path) for name, path in sorted(files.items())])
    return PluginPin(
        owner.version,
        "blake2b:" + digest_of([[pin.name, pin.digest] for pin in pins]),
        {name: class_name(kind) for name, kind in sorted(kinds.items())},
    )


def _modules(kinds: Iterable[type[Kind]]) -> Iterator[ModuleType]:
    """Yield the modules of classes and of their base classes, except ours."""
    for kind in kinds:
        for cls in kind.__mro__:
            package = cls.__module__.partition(".")[0]
            if issubclass(cls, Kind) and package not in _OUR_PACKAGES and cls.__module__ in sys.modules:
                yield sys.modules[cls.__module__]
