"""What a recipe leaves out is filled in, so that the rest of the compiler sees every table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.catalogue import Catalogue
from orca_recipes.recipe.defaults import filled_in
from orca_recipes.recipe.load import LoadedRecipe

Load = Callable[..., LoadedRecipe]
Faults = Callable[..., list[str]]

SHORT = """\
name = "supper"
tokenizer = "letters"
template = "card"

[collections.pickles]
kind = "shelf"
path = "jars"

[collections.jam]
kind = "garden"
"""


def test_with_nothing_to_say_everything_is_taken_and_answered_by_its_reference(load: Load) -> None:
    recipe = load(SHORT).recipe
    assert {name: take.all for name, take in recipe.mixtures["main"].take.items()} == {"pickles": True, "jam": True}
    assert (recipe.datasets["main"].mixture, recipe.datasets["main"].teacher) == ("main", "reference")
    assert [rule.strategy for rule in recipe.rules] == ["direct"]
    assert recipe.strategies["direct"].kind == "direct"
    assert recipe.teachers["reference"].kind == "reference"


def test_packing_output_and_engine_have_default_kinds(load: Load) -> None:
    recipe = load(SHORT + "[packing]\nrow_tokens = 512\n").recipe
    assert (recipe.packing.kind, recipe.output.kind, recipe.engine.kind) == ("best_fit", "megatron", "local")
    assert recipe.packing.row_tokens == 512


def test_without_rules_everything_is_asked_directly(catalogue: Catalogue) -> None:
    full, _ = filled_in({}, catalogue)
    assert full["rules"] == [{"strategy": "direct"}]


def test_where_a_recipe_has_rules_none_is_added(catalogue: Catalogue) -> None:
    full, _ = filled_in({"rules": [{"when": {"task": "x"}, "strategy": "aloud"}]}, catalogue)
    assert full["rules"] == [{"when": {"task": "x"}, "strategy": "aloud"}]
    full, _ = filled_in({"rules": [{"strategy": "aloud"}]}, catalogue)
    assert full["rules"] == [{"strategy": "aloud"}]


@pytest.mark.parametrize(("model", "place"), [("org/name", "hub"), ("./name", "path"), ("/deep/name", "path")])
def test_a_model_brings_its_tokenizer_and_its_template(catalogue: Catalogue, model: str, place: str) -> None:
    table = {"tokenizer": {"model": model, "add_special_tokens": ["<|x|>"]}}
    full, named = filled_in(table, catalogue)
    assert full["tokenizer"]["kind"] == "hf"
    assert full["template"] == {"kind": "from_tokenizer"}
    assert named[("template",)] == ("tokenizer", "model")
    tokenizer = HF.model_validate_json(json.dumps(full["tokenizer"]), context={"base": Path("/")})
    assert tokenizer.model == (Path("/") / model if place == "path" else model)


def test_a_template_that_a_recipe_chooses_stays(catalogue: Catalogue) -> None:
    full, _ = filled_in({"tokenizer": {"model": "org/name"}, "template": "chatml"}, catalogue)
    assert full["template"] == "chatml"


def test_a_model_and_a_path_are_too_much() -> None:
    with pytest.raises(ValidationError, match="give one of `path`, `hub` and `model`"):
        HF.model_validate({"model": "org/name", "hub": "org/name"}, context={"base": Path("/")})


def test_a_dataset_takes_the_only_mixture(load: Load, base: str) -> None:
    recipe = load(base + "[mixtures.half]\ntake.pickles = { rows = 1 }\n").recipe
    assert recipe.datasets["main"].mixture == "half"


def test_of_several_mixtures_a_recipe_has_to_choose(faults: Faults, base: str) -> None:
    mixtures = "".join(f"[mixtures.{name}]\ntake.pickles = {{ all = true }}\n" for name in "ab")
    assert faults(base + mixtures) == ['13: datasets.main.mixture: datasets.main needs the option "mixture"']
    assert faults(base.replace('[datasets.main]\nteacher = "book"\n', mixtures)) == [
        "0: datasets: a recipe needs the table [datasets]"
    ]


def test_a_table_that_a_name_calls_into_being_points_back_to_the_name(catalogue: Catalogue) -> None:
    table = {"rules": [{"strategy": "aloud"}], "mixtures": {"m": {}}, "datasets": {"d": {"teacher": "book"}}}
    full, named = filled_in(table, catalogue)
    assert full["strategies"] == {"aloud": {"kind": "aloud"}}
    assert named == {
        ("strategies", "aloud"): ("rules", 0, "strategy"),
        ("teachers", "book"): ("datasets", "d", "teacher"),
    }


def test_what_was_written_is_left_as_it_was(catalogue: Catalogue) -> None:
    table = {"rules": [{"when": {"task": "x"}, "strategy": "aloud"}], "datasets": {"d": {}}}
    filled_in(table, catalogue)
    assert table == {"rules": [{"when": {"task": "x"}, "strategy": "aloud"}], "datasets": {"d": {}}}


@pytest.mark.parametrize("key", ["collections", "mixtures", "rules", "strategies", "teachers", "datasets", "packing"])
@pytest.mark.parametrize("wrong", ["3", "true", '"text"', "[3]", "false", "0"])
def test_a_table_of_the_wrong_shape_is_a_fault_and_not_a_default(
    faults: Faults, base: str, key: str, wrong: str
) -> None:
    kept = "\n".join(line for line in base.splitlines()[:7] if not line.startswith(key))
    tables = {"collections": base.split("\n\n")[1], "datasets": base.split("\n\n")[2]}
    text = "\n".join([kept, f"{key} = {wrong}", *(text for name, text in tables.items() if name != key)])
    assert any(f" {key}" in fault for fault in faults(text))
