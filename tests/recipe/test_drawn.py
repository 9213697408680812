"""Columns that sources keep, named by filters, rules and strategies: a name that nobody keeps is a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import RecipeError
from orca_recipes.recipe.load import load_recipe

BASE = """\
name = "kept"
tokenizer = { kind = "hf", path = "tokenizer.json" }
template = "chatml"
[collections.one]
kind = "files"
path = "one.jsonl"
extra = ["stop", "score"]
[collections.two]
kind = "files"
path = "two.jsonl"
"""
TAKEN = "[mixtures.m]\ntake.{} = {{ all = true }}\n[datasets.main]\nmixture = {}\n"

Told = Callable[[str], list[str]]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """The faults of a recipe that begins as `BASE`, path and sentence each."""

    def faults(tables: str) -> list[str]:
        path = tmp_path / "recipe.toml"
        path.write_text(BASE + tables, encoding="utf-8")
        try:
            load_recipe(path, catalogue=Catalogue())
        except RecipeError as found:
            return [f"{fault.path}: {fault.sentence}" for fault in found.faults]
        return []

    return faults


def filtered(where: str, taken: str = "one") -> str:
    return TAKEN.format(taken, '"m"') + f'filters = [{{ kind = "where", where = {where} }}]\n'


@pytest.mark.parametrize(
    "where",
    [
        '{ "extra.stpo" = "cut" }',
        '{ not = { "extra.stpo" = "cut" } }',
        '{ any = [{ task = "x" }, { not = { any = [{ "extra.stpo" = { null = true } }] } }] }',
    ],
)
def test_a_filter_that_names_a_column_nobody_keeps_is_told_the_right_one(told: Told, where: str) -> None:
    assert told(filtered(where)) == ['datasets.main.filters.0: no column "stpo" is kept by "one"; did you mean "stop"?']


def test_a_filter_on_a_collection_that_keeps_nothing_is_told_how_a_source_keeps_it(told: Told) -> None:
    assert told(filtered('{ not = { "extra.stop" = "cut" } }', "two")) == [
        'datasets.main.filters.0: no column "stop" is kept by "two"; sources keep it with extra = ["stop"]'
    ]


def test_a_column_that_one_of_the_drawn_collections_keeps_may_be_named(told: Told) -> None:
    both = filtered('{ not = { "extra.stop" = "cut" } }').replace("[datasets", "take.two = { all = true }\n[datasets")
    assert told(both) == []


@pytest.mark.parametrize("part", ['from = "all"\nrows = 1', 'holdout_of = "all"'])
def test_a_part_of_a_mixture_is_drawn_from_the_collections_of_the_whole(told: Told, part: str) -> None:
    tables = filtered('{ "extra.stop" = "cut" }', "two").replace("take.two = { all = true }", part)
    assert told(tables + "[mixtures.all]\ntake.two = { rows = 9 }\nholdout = 3\n") == [
        'datasets.main.filters.0: no column "stop" is kept by "two"; sources keep it with extra = ["stop"]'
    ]


def test_a_rule_that_names_a_column_nobody_keeps_is_told_so_where_it_says_it(told: Told) -> None:
    rule = '[[rules]]\nstrategy = "direct"\nwhen = { where = { not = { "extra.sore" = "0" } } }\n'
    assert told(filtered('{ "extra.stop" = "cut" }') + rule) == [
        'rules.0.when.where: no column "sore" is kept by "one"; did you mean "score"?'
    ]


def test_a_rule_of_one_collection_may_name_only_what_that_one_keeps(told: Told) -> None:
    rule = '[[rules]]\nstrategy = "direct"\nwhen = { collection = "two", where = { "extra.score" = "0" } }\n'
    both = filtered('{ "extra.stop" = "cut" }').replace("[datasets", "take.two = { all = true }\n[datasets")
    assert told(both + rule) == [
        'rules.0.when.where: no column "score" is kept by "two"; sources keep it with extra = ["score"]'
    ]


def test_a_strategy_that_names_a_column_nobody_keeps_is_told_before_anything_is_asked(told: Told) -> None:
    words = '[strategies.mine]\nkind = "instruct"\nprompt = "{question} ({scor})"\n[[rules]]\nstrategy = "mine"\n'
    assert told(filtered('{ "extra.stop" = "cut" }') + words) == [
        'rules.0.strategy: no column "scor" is kept by "one"; did you mean "score"?'
    ]
