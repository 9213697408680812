"""How a build becomes what another trainer reads."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_exporters() -> Offers:
    return {
        "hf": "orca_plugins.exporters.hf:HF",
    }
