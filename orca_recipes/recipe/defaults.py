"""Fill in a recipe's optional tables and options, so that the rest of the compiler sees every table.

It works on the tables before they are validated and passes by whatever has the wrong shape: the grammar complains of
that with its line.
"""

import copy
from typing import Any

from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.toml_lines import Path

KINDS = {"packing": "best_fit", "output": "megatron", "engine": "local"}
"""The kind of a table that names none."""

TOKENIZER = "hf"
"""The kind of a table `[tokenizer]` that names none."""
MODEL_TEMPLATE = "from_tokenizer"
"""The kind of template where `[tokenizer] model` names a chat model and the recipe has no template."""

STRATEGY = "direct"
TEACHER = "reference"
DATASET = "main"
MIXTURE = "main"

FILLED = frozenset({*KINDS, "mixtures", "rules", "datasets"})
"""Tables that a recipe need not have."""

_MODEL = "model"
"""The option of `[tokenizer]` that names a model, whose own template is used where a recipe has none."""


def filled_in(table: dict[str, Any], kinds: Kinds) -> tuple[dict[str, Any], dict[Path, Path]]:
    """Fill in a recipe's defaults.

    Returns: a new table, and for each table that a name called into being ("strategies.direct") the path that named it.
    """
    full = copy.deepcopy(table)
    for key, kind in KINDS.items():
        chosen = full.setdefault(key, {})
        if isinstance(chosen, dict):
            chosen.setdefault("kind", kind)
    _fill_mixtures(full)
    _fill_datasets(full)
    _fill_rules(full)
    return full, {**_fill_tokenizer(full), **_name_kinds(full, kinds)}


def _fill_tokenizer(full: dict[str, Any]) -> dict[Path, Path]:
    """Fill in the tokenizer's kind, and the template of a model that `[tokenizer] model` names.

    Returns: the path of a template that was filled in, with the one that asked for it.
    """
    tokenizer = full.get("tokenizer")
    if not isinstance(tokenizer, dict):
        return {}
    tokenizer.setdefault("kind", TOKENIZER)
    if _MODEL not in tokenizer or "template" in full:
        return {}
    full["template"] = {"kind": MODEL_TEMPLATE}
    return {("template",): ("tokenizer", _MODEL)}


def _fill_rules(full: dict[str, Any]) -> None:
    """Add one rule that asks everything directly, if a recipe has no rules. A recipe with rules gets no silent default:
    an example that matches none is a fault, and a rule without `when` takes the rest.
    a silent default: a rule without `when` says what becomes of the rest."""
    if full.setdefault("rules", []) == []:
        full["rules"] = [{"strategy": STRATEGY}]


def _fill_mixtures(full: dict[str, Any]) -> None:
    collections = full.get("collections")
    if full.setdefault("mixtures", {}) == {} and isinstance(collections, dict) and collections:
        full["mixtures"] = {MIXTURE: {"take": {name: {"all": True} for name in collections}}}


def _fill_datasets(full: dict[str, Any]) -> None:
    """Add a dataset for the only mixture, and name it in datasets that name none; of several mixtures, the recipe has
    to choose."""
    names = list(full["mixtures"]) if isinstance(full["mixtures"], dict) else []
    if full.get("datasets", {}) == {}:
        full["datasets"] = {DATASET: {}} if len(names) == 1 else {}
        if len(names) > 1:
            del full["datasets"]  # the grammar then says that it is missing
    datasets = full.get("datasets")
    for dataset in datasets.values() if isinstance(datasets, dict) else ():
        if isinstance(dataset, dict) and len(names) == 1:
            dataset.setdefault("mixture", names[0])


def _name_kinds(full: dict[str, Any], kinds: Kinds) -> dict[Path, Path]:
    """Add the table of each strategy and teacher that is named by its kind alone."""
    rules, datasets = full.get("rules"), full.get("datasets")
    asked: list[tuple[str, str, Any, Path]] = []
    for place, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict):
            asked.append(("strategies", "orca_strategies", rule.get("strategy"), ("rules", place, "strategy")))
    for name, dataset in datasets.items() if isinstance(datasets, dict) else ():
        if isinstance(dataset, dict):
            teacher = dataset.setdefault("teacher", TEACHER)
            asked.append(("teachers", "orca_teachers", teacher, ("datasets", name, "teacher")))
    named: dict[Path, Path] = {}
    for key, hook, kind, path in asked:
        tables = full.setdefault(key, {})
        offered = {offer.name for offer in kinds.offers(hook)}
        if isinstance(tables, dict) and isinstance(kind, str) and kind not in tables and kind in offered:
            tables[kind] = {"kind": kind}
            named[(key, kind)] = path
    return named
