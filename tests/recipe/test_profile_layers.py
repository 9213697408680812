"""A profile is merged deep into a recipe, then --set is applied, and faults know who wrote what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orca_recipes.errors import RecipeError
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.profile_layers import UnfitOverride, parse_override

Load = Callable[..., LoadedRecipe]
Faults = Callable[..., list[str]]

PROFILE = """
[collections.jam]
kind = "shelf"
path = "jars"
labels = ["a", "b"]

[profiles.small]
name = "snack"
collections.jam = { jars = 3, labels = ["c"] }

[profiles.small.template]
header = "##"
"""


def test_a_profile_joins_tables_and_replaces_the_rest(load: Load, base: str) -> None:
    loaded = load(base + PROFILE, profile="small")
    jam = loaded.resolved["collections"]["jam"]
    assert loaded.profile == "small"
    assert loaded.recipe.name == "snack"
    assert jam == {"kind": "shelf", "path": "jars", "jars": 3, "labels": ["c"]}


def test_without_a_profile_none_is_merged(load: Load, base: str) -> None:
    assert load(base + PROFILE).recipe.name == "supper"


def test_a_profile_adds_options_to_a_kind_that_stands_there_by_its_bare_name(load: Load, base: str) -> None:
    loaded = load(base + PROFILE, profile="small")
    assert loaded.resolved["template"] == {"kind": "card", "header": "##"}


def test_a_profile_that_names_a_bare_kind_replaces_the_table(load: Load, base: str) -> None:
    text = base + '[strategies.s]\nkind = "aloud"\nvolume = 9\n[profiles.p.strategies]\ns = "plainly"\n'
    assert load(text, profile="p").recipe.strategies["s"].kind == "plainly"


def test_an_unknown_profile_is_answered_with_the_nearest(faults: Faults, base: str) -> None:
    assert faults(base + PROFILE, profile="smal") == ['21: profiles: there is no profile "smal"; did you mean "small"?']
    assert faults(base, profile="smal") == ['0: profiles: there is no profile "smal"']


def test_a_fault_of_a_profile_stands_at_its_line_in_the_profile(faults: Faults, base: str) -> None:
    text = base + PROFILE + "colour = 1\n[profiles.small.collections.pickles]\njars = 0\n"
    assert faults(text, profile="small") == [
        '27: template.colour: template "card" has no option "colour"; there is "header", "kind"',
        "29: collections.pickles.jars: must be at least 1, not 0",
    ]


def test_items_that_a_profile_replaces_lose_the_lines_of_the_old_ones(faults: Faults, base: str) -> None:
    text = base + PROFILE.replace('labels = ["c"]', "labels = ['x', 3]")
    assert faults(text, profile="small") == ["23: collections.jam.labels.1: must be a text, not the integer 3"]


@pytest.mark.parametrize(
    ("profiles", "fault"),
    [
        ("profiles = 3\n", "1: profiles: must hold tables, [profiles.NAME], and is the integer 3"),
        ("profiles.a = 3\n", "1: profiles.a: must be a table, not the integer 3"),
    ],
)
def test_profiles_that_are_no_tables_are_faults(faults: Faults, base: str, profiles: str, fault: str) -> None:
    assert faults(profiles + base) == [fault]


def test_a_profile_with_a_name_that_cannot_name_a_lock_is_refused(faults: Faults, base: str) -> None:
    (fault,) = faults(base + '[profiles."a/b"]\nseed = 1\n')
    assert fault.startswith('15: profiles."a/b": names become folders')


@pytest.mark.parametrize(
    ("assignment", "keys", "value"),
    [
        ("seed=3", ["seed"], 3),
        ("a.b-c.d=true", ["a", "b-c", "d"], True),
        ("a=1_000", ["a"], 1000),
        ("a=0.5", ["a"], 0.5),
        ('a="3"', ["a"], "3"),
        ("a=some/path.jsonl", ["a"], "some/path.jsonl"),
        ("a=", ["a"], ""),
        ("a = 3", ["a"], 3),
        ("a=[1, 2]", ["a"], [1, 2]),
        ("a={ rows = 3 }", ["a"], {"rows": 3}),
        ('a."b.c=d".e=f=g', ["a", "b.c=d", "e"], "f=g"),
        ("a=1\nb = 2", ["a"], "1\nb = 2"),
        ("a=2024-01-31", ["a"], "2024-01-31"),
        ("a=nan", ["a"], "nan"),
        ("a=99999999999999999999", ["a"], "99999999999999999999"),
        ("a=" + "[" * 5000, ["a"], "[" * 5000),
    ],
)
def test_a_value_to_set_is_toml_or_else_a_text(assignment: str, keys: list[str], value: object) -> None:
    assert parse_override(assignment) == (keys, value)


@pytest.mark.parametrize("assignment", ["seed", "", "=3", "a b=3", "a..b=3", "a\n.b=3", "# a=3"])
def test_a_set_without_a_key_is_refused(assignment: str) -> None:
    with pytest.raises(UnfitOverride, match=r"--set path\.to\.key=value"):
        parse_override(assignment)


def test_overrides_come_after_the_profile_in_order_and_are_recorded(load: Load, base: str) -> None:
    overrides = ("name=a", "collections.jam.jars=4", "name=b", "mixtures.m.take.jam.rows=5")
    loaded = load(base + PROFILE, profile="small", overrides=overrides)
    assert loaded.overrides == overrides
    assert loaded.recipe.name == "b"
    assert loaded.resolved["collections"]["jam"]["jars"] == 4
    assert loaded.recipe.mixtures["m"].take["jam"].rows == 5


def test_an_override_reaches_items_of_lists_by_position(load: Load, base: str) -> None:
    text = base + 'filters = ["sieve", { kind = "sieve" }]\n'
    overrides = ["datasets.main.filters.0.max_chars=1", "datasets.main.filters.1=sieve", "rules.0.strategy=aloud"]
    loaded = load(text, overrides=overrides)
    assert loaded.resolved["datasets"]["main"]["filters"] == [{"kind": "sieve", "max_chars": 1}, "sieve"]
    assert loaded.recipe.rules[0].strategy == "aloud"


def test_an_override_gives_an_option_to_a_bare_kind(load: Load, base: str) -> None:
    assert load(base, overrides=["packing.row_tokens=4096"]).recipe.packing.row_tokens == 4096


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("rules.1.strategy=x", 'rules is a list, whose items are called by position (0 to 0), not "1"'),
        ("rules.first=x", 'rules is a list, whose items are called by position (0 to 0), not "first"'),
        ("rules." + "9" * 5000 + "=x", "rules is a list, whose items are called by position (0 to 0)"),
        ("name.x=1", 'name is the text "supper", and no table'),
        ("seed", "write it as --set path.to.key=value"),
        ("profiles.small.seed=1", "the profile is merged before --set; set the option itself"),
        ("name=\udcff", "is not valid UTF-8"),
    ],
)
def test_an_override_that_cannot_be_laid_over_says_why(load: Load, base: str, assignment: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(base, overrides=[assignment])
    (fault,) = caught.value.faults
    assert (fault.file, fault.line) == (f"--set {assignment}", 0)
    assert fault.sentence.startswith(sentence)


def test_a_fault_of_an_overridden_value_names_the_override_and_comes_last(load: Load, base: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(base + "colour = 1\n", overrides=["collections.pickles.jars=many"])
    first, last = (str(fault) for fault in caught.value.faults)
    assert "supper.toml:15: datasets.main.colour" in first
    assert last == (
        '--set collections.pickles.jars=many: collections.pickles.jars\n  must be an integer, not the text "many"'
    )


def test_an_override_of_a_value_takes_its_old_line_with_it(load: Load, base: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(base, overrides=['collections.pickles={ kind = "shelf", path = "p", labels = [1] }'])
    assert [fault.file.startswith("--set ") for fault in caught.value.faults] == [True]


def test_a_wrong_override_and_the_faults_of_the_file_are_shown_together(load: Load, base: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("sed = 1\n" + base, overrides=["rules.7.strategy=x", "name.x=1"])
    assert len(caught.value.faults) == 3


def test_a_profile_that_names_another_kind_replaces_the_table_with_its_options(load: Load, base: str) -> None:
    other = '[collections.jam]\nkind = "shelf"\njars = 3\npath = "jars"\n[profiles.small.collections]\n'
    loaded = load(base + other + 'jam = { kind = "garden" }\n', profile="small")
    assert loaded.resolved["collections"]["jam"] == {"kind": "garden"}
