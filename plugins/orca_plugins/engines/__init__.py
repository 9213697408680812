"""Engines, which run the parts of stages."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_engines() -> Offers:
    return {
        "local": "orca_plugins.engines.local:Local",
        "ray": "orca_plugins.engines.ray:Ray",
    }
