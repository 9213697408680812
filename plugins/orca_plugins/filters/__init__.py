"""Filters, which keep or reject conversations."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_filters() -> Offers:
    return {
        "answer_matches": "orca_plugins.filters.answer_matches:AnswerMatches",
        "contains_prompt": "orca_plugins.filters.contains_prompt:ContainsPrompt",
        "decontaminate": "orca_plugins.filters.decontaminate:Decontaminate",
        "echo": "orca_plugins.filters.echo:Echo",
        "finish": "orca_plugins.filters.finish:Finish",
        "length": "orca_plugins.filters.length:Length",
        "near_duplicates": "orca_plugins.filters.near_duplicates:NearDuplicates",
        "refusal": "orca_plugins.filters.refusal:Refusal",
        "repetition": "orca_plugins.filters.repetition:Repetition",
        "where": "orca_plugins.filters.where:Where",
    }
