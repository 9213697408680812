"""Writers: kinds that store packed rows in files."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_writers() -> Offers:
    return {
        "megatron": "orca_plugins.writers.megatron:Megatron",
    }
