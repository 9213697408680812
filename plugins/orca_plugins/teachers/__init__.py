"""Teachers: kinds that answer questions."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_teachers() -> Offers:
    return {
        "llamacpp": "orca_plugins.teachers.llamacpp.kind:LlamaCpp",
        "openai": "orca_plugins.teachers.openai.kind:OpenAI",
        "replay": "orca_plugins.teachers.replay.kind:Replay",
        "reference": "orca_plugins.teachers.reference:Reference",
    }
