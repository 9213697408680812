"""All packages that offer kinds: version, hooks, kinds, contract, faults, and the time that importing them takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract import VERSION
from orca_recipes.contract.pieces import PIECES
from orca_recipes.text_table import in_columns

_OURS = "orca-recipes"


@dataclass(frozen=True)
class Package:
    """A distribution with plugins.

    kinds: by hook. contract: that it says it is written for, None where it says none. seconds: of importing its
    plugins; a kind's own module is imported when a recipe chooses it.
    """

    distribution: str
    version: str
    hooks: list[str]
    kinds: dict[str, list[str]]
    contract: int | None
    faults: list[str]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def packages(catalogue: Catalogue) -> list[Package]:
    """List the installed packages, sorted by name."""
    found = {}
    for name in sorted({plugin.distribution for plugin in catalogue.loaded}):
        own = [plugin for plugin in catalogue.loaded if plugin.distribution == name]
        kinds = {
            piece.hook.removeprefix("orca_"): [
                offer.name for offer in catalogue.offers(piece.hook) if offer.distribution == name
            ]
            for piece in PIECES
        }
        kinds = {hook: names for hook, names in kinds.items() if names}
        contracts = [plugin.contract for plugin in own if plugin.contract is not None]
        faults = [plugin.error for plugin in catalogue.broken if plugin.distribution == name]
        seconds = round(sum(plugin.seconds for plugin in own), 4)
        contract = VERSION if name == _OURS else min(contracts, default=None)
        found[name] = Package(name, own[0].version, sorted(kinds), kinds, contract, faults, seconds)
    return list(found.values())


def packages_page(found: list[Package]) -> str:
    """Lay out the packages, a line each, with their kinds and faults below."""
    lines = in_columns(
        [
            (
                f"{package.distribution} {package.version}",
                f"contract {package.contract or 'not said'}",
                f"imported in {package.seconds * 1000:.0f} ms",
            )
            for package in found
        ]
    )
    page = [f"this program has contract {VERSION}"]
    for line, package in zip(lines, found, strict=True):
        page.append(line)
        page += [f"  {hook}: {', '.join(names)}" for hook, names in package.kinds.items()]
        page += [f"  does not load: {fault}" for fault in package.faults]
    return "\n".join(page)
