"""A filter for orca-recipes that rejects conversations in other languages than those that are wanted."""

from orca_recipes.contract.hooks import Offers, hookimpl

ORCA_CONTRACT = 1


@hookimpl
def orca_filters() -> Offers:
    return {"language": "orca_language.kind:Language"}
