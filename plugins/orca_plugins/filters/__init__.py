"""What is kept."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_filters() -> Offers:
    return {
        "length": "orca_plugins.filters.length:Length",
    }
