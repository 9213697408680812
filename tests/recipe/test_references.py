"""Every name that a recipe mentions is one that it has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.references import unknown_references

Load = Callable[..., LoadedRecipe]
Faults = Callable[..., list[str]]

RULE = """
[[rules]]
strategy = "plainly"
"""
MESSAGES = """
[system_messages.orca1]
messages = { 1 = "", 2 = "Be brief." }
"""


@pytest.mark.parametrize(
    ("tables", "place", "sentence"),
    [
        (
            "[mixtures.m.take]\npickels = { all = true }\n",
            "16: mixtures.m.take.pickels",
            'there is no collection "pickels"; did you mean "pickles"?',
        ),
        ('mixture = "mian"\n', "15: datasets.main.mixture", 'there is no mixture "mian"; did you mean "main"?'),
        (
            '[[curriculum]]\ndataset = "mani"\n',
            "16: curriculum.0.dataset",
            'there is no dataset "mani"; did you mean "main"?',
        ),
        (
            'student = { erase = true, system_message = "orca/1" }\n' + MESSAGES,
            "15: datasets.main.student.system_message",
            'there is no set of system messages "orca"; did you mean "orca1"?',
        ),
        (
            'student = { erase = true, system_message = "orca1/12" }\n' + MESSAGES,
            "15: datasets.main.student.system_message",
            'the system messages "orca1" have no id "12"; did you mean "2"?',
        ),
        (
            'allow_empty = ["pick*", "*/sour", "pickels/sour"]\n',
            "15: datasets.main.allow_empty.2",
            'no collection fits "pickels"; did you mean "pickles"?',
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    faults: Faults, base: str, tables: str, place: str, sentence: str
) -> None:
    assert faults(base + tables) == [f"{place}: {sentence}"]


@pytest.mark.parametrize(
    ("rule", "path", "sentence"),
    [
        ('strategy = "plainlee"', "strategy", 'there is no strategy "plainlee"; did you mean "plainly"?'),
        (
            'when = { collection = "pickels" }',
            "when.collection",
            'there is no collection "pickels"; did you mean "pickles"?',
        ),
        (
            'when.collection = ["pickles",\n"jam"]',
            "when.collection.1",
            'there is no collection "jam"; there is "pickles"',
        ),
        (
            'system_messages = ["orca1", "orca2/1"]',
            "system_messages.1",
            'there is no set of system messages "orca2"; did you mean "orca1"?',
        ),
        (
            'system_messages = ["orca1/3"]',
            "system_messages.0",
            'the system messages "orca1" have no id "3"; there is "1", "2"',
        ),
    ],
)
def test_an_unknown_name_in_a_rule_is_answered_with_the_nearest(
    faults: Faults, base: str, rule: str, path: str, sentence: str
) -> None:
    strategy = "" if rule.startswith("strategy") else 'strategy = "plainly"\n'
    text = base.replace('rules = [{ strategy = "plainly" }]\n', "") + MESSAGES + f"[[rules]]\n{strategy}{rule}\n" + RULE
    line = 19 + rule.count("\n") - (strategy == "")
    assert faults(text) == [f"{line}: rules.0.{path}: {sentence}"]


def test_a_teacher_is_a_table_or_a_kind(load: Load, faults: Faults, base: str) -> None:
    text = base.replace('teacher = "book"', 'teacher = "boss"')
    assert load(text + '[teachers.boss]\nkind = "book"\n').recipe.teachers["boss"].kind == "book"
    (told,) = faults(text)
    assert told.startswith('14: datasets.main.teacher: there is no teacher "boss"; there is "book", ')


def test_a_strategy_that_is_a_table_comes_before_the_kind_of_that_name(load: Load, base: str) -> None:
    assert load(base + '[strategies.plainly]\nkind = "aloud"\n').recipe.strategies["plainly"].kind == "aloud"


def test_the_nearest_name_may_be_a_table_of_the_recipe(faults: Faults, base: str) -> None:
    text = base.replace('strategy = "plainly"', 'strategy = "explian"') + '[strategies.explain]\nkind = "aloud"\n'
    assert faults(text) == ['7: rules.0.strategy: there is no strategy "explian"; did you mean "explain"?']


def test_a_collection_or_mixture_that_nobody_uses_is_fine(load: Load, base: str) -> None:
    mixtures = "[mixtures.a]\ntake.jam = { all = true }\n[mixtures.b]\ntake.pickles = { all = true }\n"
    text = (
        base.replace("[datasets.main]", '[collections.jam]\nkind = "garden"\n[datasets.main]\nmixture = "b"') + mixtures
    )
    assert set(load(text).recipe.mixtures) == {"a", "b"}


def test_names_are_checked_even_where_other_things_are_wrong(faults: Faults, base: str) -> None:
    assert faults("sed = 1\n" + base + 'mixture = "mian"\n') == [
        '1: sed: a recipe has no option "sed"; did you mean "seed"?',
        '16: datasets.main.mixture: there is no mixture "mian"; did you mean "main"?',
    ]


@pytest.mark.parametrize(
    "wrong", [3, "text", [], [3], {"a": 3}, {"a": {"take": 3, "filters": 3}}, [{"when": 3, "system_messages": 3}]]
)
def test_tables_of_the_wrong_shape_are_left_to_the_grammar(catalogue: Catalogue, wrong: object) -> None:
    keys = ("collections", "mixtures", "rules", "datasets", "curriculum", "system_messages", "strategies", "teachers")
    assert list(unknown_references(dict.fromkeys(keys, wrong), catalogue)) == []


def with_mixtures(base: str, tables: str) -> str:
    """A recipe whose dataset has mixture m, and further mixtures from line 18 on."""
    return (
        base.replace("[datasets.main]", '[datasets.main]\nmixture = "m"')
        + "[mixtures.m]\ntake.pickles = { all = true }\n"
        + tables
    )


@pytest.mark.parametrize(
    ("tables", "sentences"),
    [
        (
            '[mixtures.p]\nfrom = "mm"\nrows = 3\n',
            ['19: mixtures.p.from: there is no mixture "mm"; did you mean "m"?'],
        ),
        (
            '[mixtures.p]\ntake.pickles = { all = true }\nexclude = ["m", "q"]\n',
            ['20: mixtures.p.exclude.1: there is no mixture "q"; there is "m", "p"'],
        ),
        (
            '[mixtures.p]\nholdout_of = "m"\n',
            ['19: mixtures.p.holdout_of: mixture "m" sets nothing aside; give it `holdout = N`, a number of rows'],
        ),
        (
            '[mixtures.p]\nfrom = "q"\nrows = 3\n[mixtures.q]\nfrom = "p"\nrows = 3\n',
            [
                "19: mixtures.p.from: the mixtures go in a circle (p -> q -> p): "
                "each would have to be drawn before the other"
            ],
        ),
        (
            '[mixtures.p]\ntake.pickles = { all = true }\nexclude = ["p"]\n',
            [
                "20: mixtures.p.exclude.0: the mixtures go in a circle (p -> p): "
                "each would have to be drawn before the other"
            ],
        ),
    ],
)
def test_mixtures_of_mixtures_are_known_and_go_in_no_circle(
    faults: Faults, base: str, tables: str, sentences: list[str]
) -> None:
    assert faults(with_mixtures(base, tables)) == sentences
