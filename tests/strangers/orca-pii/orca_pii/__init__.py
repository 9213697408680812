"""A filter for orca-recipes that rejects what tells who somebody is."""

from orca_recipes.contract.hooks import Offers, hookimpl

ORCA_CONTRACT = 1


@hookimpl
def orca_filters() -> Offers:
    return {"pii": "orca_pii.kind:PII"}
