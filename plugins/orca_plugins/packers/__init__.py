"""Packers: kinds that assign examples to rows."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_packers() -> Offers:
    return {
        "best_fit": "orca_plugins.packers.best_fit:BestFit",
        "one_per_row": "orca_plugins.packers.one_per_row:OnePerRow",
    }
