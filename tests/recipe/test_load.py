"""A recipe file is read whole, or refused with all that is wrong in it."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import Fault, RecipeError
from orca_recipes.recipe.load import LoadedRecipe, load_recipe

Load = Callable[..., LoadedRecipe]
Faults = Callable[..., list[str]]

SEVEN_MISTAKES = """\
name = "supper"
seed = "one"
tokenizer = "leters"
template = "card"
output = "paper"
engine = "kitchen"

[collections.pickles]
kind = "shelf"
path = "jars"
submx = "sour"

[mixtures.all]
take.pickels = { all = true }

[[rules]]
strategy = "plainly"
when = { colection = "pickles" }

[[rules]]
strategy = "plainly"

[datasets.main]
teacher = "book"
filters = ["sieve", { kind = "sieve", max_chars = -1.5 }]

[packing]
kind = "tight"
row_tokens = 0
"""


def test_a_whole_recipe_holds_the_kinds_that_its_tables_choose(load: Load, base: str) -> None:
    recipe = load(base + 'filters = ["sieve", { kind = "sieve", max_chars = 7 }]\n').recipe
    assert recipe.name == "supper"
    assert recipe.seed == 0
    assert type(recipe.collections["pickles"]).__name__ == "Shelf"
    assert [kind.model_dump() for kind in recipe.datasets["main"].filters] == [
        {"kind": "sieve", "max_chars": 100},
        {"kind": "sieve", "max_chars": 7},
    ]
    assert recipe.curriculum == ()


def test_every_table_of_the_grammar_is_read(load: Load, base: str) -> None:
    recipe = load(
        base.replace('rules = [{ strategy = "plainly" }]\n', "seed = 3\n")
        + """
mixture = "half"
student = { erase = true, system_message = "orca1/2" }

[mixtures.half]
take.pickles = { rows = 1_000 }

[system_messages.orca1]
messages = { 1 = "", 2 = "Be brief." }

[strategies.explain]
kind = "aloud"
volume = 11

[[rules]]
when = { collection = "pickles", task = ["cot_*", "x"], category = "math" }
strategy = "explain"
system_messages = ["orca1", "orca1/2"]
replace = true

[[rules]]
strategy = "plainly"

[[curriculum]]
dataset = "main"
epochs = 4
"""
    ).recipe
    assert recipe.mixtures["half"].take["pickles"].rows == 1000
    assert recipe.strategies["explain"].model_dump() == {"kind": "aloud", "volume": 11}
    rule = recipe.rules[0]
    assert (rule.when.collection, rule.when.task, rule.when.category) == (("pickles",), ("cot_*", "x"), ("math",))
    assert rule.replace
    assert recipe.datasets["main"].student.model_dump() == {"erase": True, "system_message": "orca1/2"}
    assert [(phase.dataset, phase.epochs) for phase in recipe.curriculum] == [("main", 4)]


def test_a_name_of_a_set_means_all_its_messages_and_a_name_with_an_id_one(load: Load, base: str) -> None:
    recipe = load(base + '[system_messages.s]\nmessages = { a = "A", b = "B" }\n').recipe
    assert recipe.system_message_texts(["s/b"]) == {"s/b": "B"}
    assert recipe.system_message_texts(["s"]) == {"s/a": "A", "s/b": "B"}


def test_a_rule_may_match_the_collections_that_it_names_or_all_where_it_names_none(load: Load, base: str) -> None:
    rules = 'rules = [{ strategy = "plainly", when = { collection = ["pickles"] } }, { strategy = "aloud" }]'
    named, open_rule = load(base.replace('rules = [{ strategy = "plainly" }]', rules)).recipe.rules
    assert named.when.may_match_collection("pickles")
    assert not named.when.may_match_collection("jam")
    assert open_rule.when.may_match_collection("jam")


def test_paths_are_relative_to_the_folder_of_the_recipe(load: Load, base: str, tmp_path: Path) -> None:
    assert load(base).recipe.collections["pickles"].path == tmp_path / "jars"  # type: ignore[attr-defined]


def test_seven_mistakes_give_seven_sentences_with_their_lines_in_one_run(faults: Faults) -> None:
    assert faults(SEVEN_MISTAKES) == [
        '2: seed: must be an integer, not the text "one"',
        '3: tokenizer: there is no tokenizer "leters"; did you mean "letters"?',
        '11: collections.pickles.submx: source "shelf" has no option "submx"; did you mean "submix"?',
        '14: mixtures.all.take.pickels: there is no collection "pickels"; did you mean "pickles"?',
        '18: rules.0.when.colection: rules.0.when has no option "colection"; did you mean "collection"?',
        "25: datasets.main.filters.1.max_chars: must be an integer, not the number -1.5",
        "29: packing.row_tokens: must be more than 0, not 0",
    ]


def test_a_fault_is_a_block_of_place_path_and_sentence(load: Load, base: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(base + 'mixtur = "x"\n')
    assert str(caught.value) == (
        f"{tmp_path}/supper.toml:15: datasets.main.mixtur\n"
        '  datasets.main has no option "mixtur"; did you mean "mixture"?'
    )
    assert caught.value.exit_status == 2


def test_what_was_read_is_kept_as_json_values_without_what_was_filled_in(load: Load, base: str) -> None:
    loaded = load(base + "[profiles.small]\nseed = 1\n")
    assert json.loads(json.dumps(loaded.resolved)) == loaded.resolved
    assert "profiles" not in loaded.resolved
    assert "mixtures" not in loaded.resolved
    assert loaded.resolved["template"] == "card"


def test_a_loaded_recipe_can_be_sent_to_another_process(load: Load, base: str) -> None:
    loaded = load(base)
    assert pickle.loads(pickle.dumps(loaded)) == loaded


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ('name = "a"\nseed = = 1\n', 2, "is not TOML: Invalid value"),
        ('name = "a"\nname = "b"\n', 2, "is not TOML: Cannot overwrite a value"),
        ("a = [1,\n2", 2, "is not TOML: Unclosed array"),
        ("x = " + "[" * 5000, 0, "is not a recipe: its values are nested too deep"),
        ("seed = " + "9" * 5000, 0, "is not a recipe: "),
    ],
)
def test_a_file_that_is_no_toml_is_one_fault_alone(load: Load, text: str, line: int, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(text)
    (fault,) = caught.value.faults
    assert fault.line == line
    assert fault.sentence.startswith(sentence)


def test_a_file_that_is_not_utf_8_is_named_with_the_line(tmp_path: Path, catalogue: Catalogue) -> None:
    path = tmp_path / "supper.toml"
    path.write_bytes(b'name = "a"\n# caf\xe9\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, catalogue=catalogue)
    assert caught.value.faults == (
        Fault(str(path), 2, "", "is not valid UTF-8, and TOML must be; save the file as UTF-8"),
    )


def test_a_file_that_an_editor_began_with_a_byte_order_mark_is_read(load: Load, base: str) -> None:
    assert load("\ufeff" + base).recipe.name == "supper"


def test_a_file_that_is_missing_or_a_folder_is_one_sentence(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(RecipeError, match="there is no such recipe"):
        load_recipe(tmp_path / "none.toml", catalogue=catalogue)
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path, catalogue=catalogue)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("2024-01-31", "is a date or time, and no option takes one; write it as a text, in quotes"),
        ("nan", "is nan, and no option takes that; write a number"),
        ("-inf", "is -inf, and no option takes that; write a number"),
        ("99999999999999999999", "is an integer beyond 64 bits; write a smaller one"),
    ],
)
def test_a_value_that_no_option_takes_is_a_fault_where_it_stands(
    faults: Faults, base: str, value: str, sentence: str
) -> None:
    assert faults(f"seed = {value}\n{base}") == [f"1: seed: {sentence}"]


def test_values_nested_deeper_than_any_option_are_a_fault(faults: Faults, base: str) -> None:
    keys = ".".join(["a"] * 3000)
    assert "a key has more than 100 parts" in faults(f"{keys} = 1\n{base}")[0]
    tables = "{a=" * 90 + "1" + "}" * 90
    assert faults(f"a = {tables}\n{base}")[0].endswith("is nested too deep")
