"""Of a recipe's tables, only those that a dataset reaches take part in a build."""

from pathlib import Path

from orca_recipes.catalogue import Catalogue
from orca_recipes.plan.used_parts import (
    collects,
    compares_questions,
    has_reserve,
    matching_rules,
    taken_collections,
    used_collections,
)
from orca_recipes.recipe.load import load_recipe
from orca_recipes.recipe.model import Recipe

RECIPE = """\
name = "used"
[collections]
sums = { kind = "files", path = "sums.jsonl" }
exam = { kind = "files", path = "exam.jsonl" }
spare = { kind = "files", path = "spare.jsonl" }
[mixtures.all]
take.sums = { rows = 10, reserve = "0.1" }
[datasets.main]
mixture = "all"
filters = [{ kind = "decontaminate", against = ["exam"] }]
[datasets.bought]
mixture = "all"
teacher = "asked"
filters = [{ kind = "decontaminate", against = ["exam"] }]
[teachers.asked]
kind = "openai"
model = "m"
[[rules]]
when = { collection = "spare" }
strategy = "step_by_step"
[[rules]]
strategy = "direct"
[tokenizer]
kind = "hf"
path = "tokenizer.json"
[template]
kind = "chatml"
"""


def recipe(folder: Path) -> Recipe:
    (folder / "used.toml").write_text(RECIPE)
    return load_recipe(folder / "used.toml", catalogue=Catalogue()).recipe


def test_a_collection_is_used_if_it_is_drawn_from_or_compared_with(tmp_path: Path):
    assert used_collections(recipe(tmp_path)) == ("sums", "exam")
    assert taken_collections(recipe(tmp_path), "main") == ("sums",)


def test_questions_are_compared_early_only_where_their_answers_are_bought(tmp_path: Path):
    found = {
        name: (collects(recipe(tmp_path), name), compares_questions(recipe(tmp_path), name))
        for name in ("main", "bought")
    }
    assert found == {"main": (False, False), "bought": (True, True)}


def test_a_rule_of_another_collection_matches_none_of_this_one(tmp_path: Path):
    assert [rule.strategy for rule in matching_rules(recipe(tmp_path), "sums")] == ["direct"]


def test_a_take_with_a_reserve_is_told_from_others(tmp_path: Path):
    assert has_reserve(recipe(tmp_path), "main", "sums")
    assert not has_reserve(recipe(tmp_path), "main", "spare")
