"""Templates: kinds that turn a conversation into text with control tokens."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_templates() -> Offers:
    return {
        "chatml": "orca_plugins.templates.chatml:ChatML",
        "plain": "orca_plugins.templates.plain:Plain",
        "from_tokenizer": "orca_plugins.templates.from_tokenizer.kind:FromTokenizer",
    }
