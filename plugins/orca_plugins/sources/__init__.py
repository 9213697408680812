"""Where examples come from."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_sources() -> Offers:
    return {
        "files": "orca_plugins.sources.files:Files",
        "flan": "orca_plugins.sources.flan:Flan",
        "hub": "orca_plugins.sources.hub:Hub",
        "niv2": "orca_plugins.sources.niv2:Niv2",
        "reasoning_gym": "orca_plugins.sources.reasoning_gym:ReasoningGym",
    }
