"""How the teacher is asked to reason, and what of that the student sees."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_strategies() -> Offers:
    return {
        "direct": "orca_plugins.strategies.direct:Direct",
    }
