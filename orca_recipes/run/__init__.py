"""Doing what a plan says: one module makes each verb, in the order of the data."""

VERBS = {
    "tokenizer": "orca_recipes.run.pinning.tokenizer",
    "template": "orca_recipes.run.pinning.template",
    "read": "orca_recipes.run.examples.read",
    "prepare": "orca_recipes.run.conversations.prepare",
    "contexts": "orca_recipes.run.mixtures.contexts",
    "questions": "orca_recipes.run.mixtures.questions",
    "measure": "orca_recipes.run.mixtures.measure",
    "allot": "orca_recipes.run.mixtures.allot",
    "mix": "orca_recipes.run.mixtures.mix",
    "ask": "orca_recipes.run.answers.ask",
    "answer": "orca_recipes.run.answers.answer",
    "converse": "orca_recipes.run.conversations.converse",
    "compare": "orca_recipes.run.comparisons.compare",
    "sift": "orca_recipes.run.comparisons.sift",
    "keep": "orca_recipes.run.conversations.keep",
    "tokenize": "orca_recipes.run.tokens.tokenize",
    "pack": "orca_recipes.run.rows.pack",
    "write": "orca_recipes.run.rows.write",
}
"""Each word that `orca-recipe plan` prints first, and the module that makes such stages."""
