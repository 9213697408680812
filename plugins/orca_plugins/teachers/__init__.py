"""Who answers."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_teachers() -> Offers:
    return {
        "reference": "orca_plugins.teachers.reference:Reference",
    }
