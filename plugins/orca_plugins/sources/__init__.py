"""Sources: kinds that read or generate examples."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_sources() -> Offers:
    return {
        "files": "orca_plugins.sources.files.kind:Files",
        "flan": "orca_plugins.sources.flan.kind:Flan",
        "hub": "orca_plugins.sources.hub.kind:Hub",
        "niv2": "orca_plugins.sources.niv2.kind:Niv2",
        "reasoning_gym": "orca_plugins.sources.reasoning_gym:ReasoningGym",
    }
