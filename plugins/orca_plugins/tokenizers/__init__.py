"""Tokenizers: kinds that turn text into ids."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_tokenizers() -> Offers:
    return {
        "hf": "orca_plugins.tokenizers.hf.kind:HF",
    }
