"""What is wrong with an option is said in the words of the recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orca_recipes.recipe.complaint import complaints

Faults = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("jars = 'ten'", 'jars: must be an integer, not the text "ten"'),
        ("jars = 1.0", "jars: must be an integer, not the number 1.0"),
        ("jars = true", "jars: must be an integer, not true"),
        ("jars = [1]", "jars: must be an integer, not a list"),
        ("jars = 0", "jars: must be at least 1, not 0"),
        ("jars = 100", "jars: must be at most 99, not 100"),
        ("share = 'half'", 'share: must be a number, not the text "half"'),
        ("submix = 3", "submix: must be a text, not the integer 3"),
        ("labels = 'sour'", 'labels: must be a list, not the text "sour"'),
        ("labels = ['sour', 3]", "labels.1: must be a text, not the integer 3"),
        ("weights = { sour = 'much' }", 'weights.sour: must be a number, not the text "much"'),
        ("weights = 3", "weights: must be a table, not the integer 3"),
        ("mode = 'salti'", 'mode: must be one of "salty", "sweet", "sour", not the text "salti"'),
        ("mode = 'xyz'", 'mode: must be one of "sweet", "sour", "salty", not the text "xyz"'),
        ("submx = 'a'", 'submx: source "shelf" has no option "submx"; did you mean "submix"?'),
        ("SUBMIX = 'a'", 'SUBMIX: source "shelf" has no option "SUBMIX"; did you mean "submix"?'),
    ],
)
def test_an_option_that_is_wrong_is_told_what_would_be_right(
    faults: Faults, base: str, option: str, sentence: str
) -> None:
    text = base.replace('path = "jars"\n', f'path = "jars"\n{option}\n')
    assert faults(text) == [f"12: collections.pickles.{sentence}"]


def test_a_missing_option_is_asked_for_at_the_line_of_its_table(faults: Faults, base: str) -> None:
    assert faults(base.replace('path = "jars"\n', "")) == [
        '9: collections.pickles.path: source "shelf" needs the option "path"'
    ]


def test_a_table_inside_a_kind_is_named_with_the_kind(faults: Faults, base: str) -> None:
    text = base.replace('path = "jars"\n', 'path = "jars"\n[collections.pickles.columns]\nquestin = "q"\n')
    assert faults(text) == [
        '13: collections.pickles.columns.questin: "columns" of source "shelf" has no option "questin"; '
        'did you mean "question"?'
    ]


@pytest.mark.parametrize("line", ["lora_rank = 8", "use_peft = true", "load_in_4bit = true", "target_modules = []"])
@pytest.mark.parametrize("table", ["training", "model"])
def test_adapters_are_refused_by_name_with_the_exports_that_serve_them(
    faults: Faults, base: str, table: str, line: str
) -> None:
    option = line.split()[0]
    [fault] = faults(f"{base}\n[{table}]\n{line}\n")
    assert fault.endswith(
        f'{table}.{option}: "{option}" is of adapters, and this trainer trains all weights: export the build for a '
        "trainer that has them, with orca-recipe export BUILD --to axolotl, llamafactory or bridge, or --to hf for TRL "
        "with a peft_config"
    )


def test_what_may_be_of_two_types_is_one_fault_that_names_both(faults: Faults, base: str) -> None:
    text = base.replace('path = "jars"\n', 'path = "jars"\ncolumns = 3\n')
    assert faults(text) == ["12: collections.pickles.columns: must be a table or a text, not the integer 3"]


def test_a_rule_of_the_kind_itself_is_said_in_its_own_words(faults: Faults, base: str) -> None:
    shown = {beds: faults(base + f'[collections.g]\nkind = "garden"\nbeds = {beds}\n') for beds in (13, 14, 15)}
    assert shown == {
        13: ["15: collections.g: thirteen beds bring bad luck; dig another"],
        14: ["15: collections.g: the garden is fenced"],
        15: ["15: collections.g: source \"garden\" fails on these options: KeyError: 'spade'"],
    }


def test_an_unknown_table_is_answered_with_the_nearest(faults: Faults, base: str) -> None:
    assert faults(base + "[datset.x]\na = 1\n") == [
        '15: datset: a recipe has no table "datset"; did you mean "datasets"?'
    ]


def test_an_unknown_option_of_the_recipe_is_answered_with_the_nearest(faults: Faults, base: str) -> None:
    assert faults(f"sed = 1\n{base}") == ['1: sed: a recipe has no option "sed"; did you mean "seed"?']


@pytest.mark.parametrize(
    ("take", "sentence"),
    [
        ("{}", ": take one of `all = true`, `rows`, `share`, `per_task` and `per_category`"),
        ("{ all = true, rows = 3 }", ": take one of `all = true`, `rows`, `share`, `per_task` and `per_category`"),
        ("{ all = false }", ".all: must be true, not false"),
        ("{ rows = 0 }", ".rows: must be at least 1, not 0"),
        ("{ rows = 2.5 }", ".rows: must be an integer, not the number 2.5"),
        ("3", ": must be a table, not the integer 3"),
        ("{ share = 1.5 }", ".share: must be at most 1, not 1.5"),
        ("{ share = 0 }", ".share: must be more than 0, not 0"),
        ("{ per_task = 0 }", ".per_task: must be at least 1, not 0"),
        ('{ rows = 3, draw = "proportional", cap = 0 }', ".cap: must be at least 1, not 0"),
        ('{ rows = 3, draw = "proportional", temperature = 0 }', ".temperature: must be more than 0, not 0"),
        ("{ rows = 3, cap = 2 }", ': `cap` and `temperature` are for draw = "proportional"'),
        (
            '{ all = true, draw = "uniform_tasks" }',
            ': draw = "uniform_tasks" draws `rows` or a `share`; leave it out, or say how many',
        ),
        (
            '{ rows = 3, draw = "uniform" }',
            '.draw: must be one of "uniform_tasks", "rows", "proportional", not the text "uniform"',
        ),
        ("{ rows = 3, repeat = 3, max_repeat = 2 }", ": max_repeat = 2 is less than repeat = 3"),
        (
            "{ all = true, max_repeat = 2 }",
            ": `all = true` asks for no more than there is; say `repeat` where it is to stand often",
        ),
        ("{ all = true, reserve = 0.1 }", ": `all = true` leaves nothing for a reserve; ask for a number of rows"),
        ("{ rows = 3, reserve = 1.5 }", ".reserve: must be at most 1, not 1.5"),
    ],
)
def test_a_mixture_takes_one_amount_of_a_collection(faults: Faults, base: str, take: str, sentence: str) -> None:
    assert faults(base + f"[mixtures.m]\ntake.pickles = {take}\n") == [f"16: mixtures.m.take.pickles{sentence}"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("", "say one of `take.COLLECTION`, `from` and `holdout_of`"),
        (
            "take.pickles = { share = 0.5 }\nrows = 10",
            "every collection takes a share, and the shares sum to 0.5, not to 1",
        ),
        ("take.pickles = { share = 0.5 }", "shares need what they are of: `rows = N` or `tokens = N`"),
        ("take.pickles = { share = 1 }\nrows = 1\ntokens = 1", "shares are of `rows` or of `tokens`, one of the two"),
        ("take.pickles = { all = true }\nrows = 10", "`rows` is what shares are of, and no take has a share"),
        (
            'take.pickles = { share = 1, draw = "uniform_tasks" }\ntokens = 10',
            'draw = "uniform_tasks" counts rows; give `rows` in place of `tokens`',
        ),
        (
            "take.pickles = { share = 1, reserve = 0.1 }\ntokens = 9",
            "a `reserve` counts rows; give `rows` in place of `tokens`",
        ),
        (
            'take.pickles = { share = 1 }\nrows = 9\ntokens_of = "trained"',
            "`tokens_of` says which tokens are counted; say how many: `tokens = N`, with shares",
        ),
        ('from = "w"\nrows = 3\ntokens_of = "trained"', "`tokens_of` is for mixtures that take of collections"),
        ('from = "w"', "`from` needs `rows`: how many of the other mixture's"),
        ('from = "w"\nrows = 3\nholdout = 2', "`holdout` is for mixtures that take of collections"),
        ('holdout_of = "w"\nrows = 3', "`rows` is for mixtures that take of collections"),
    ],
)
def test_a_mixture_comes_from_one_place_and_is_divided_whole(
    faults: Faults, base: str, options: str, sentence: str
) -> None:
    whole = "[mixtures.w]\ntake.pickles = { all = true }\nholdout = 5\n"
    text = base.replace("[datasets.main]", '[datasets.main]\nmixture = "w"') + whole + f"[mixtures.m]\n{options}\n"
    assert faults(text) == [f"19: mixtures.m: {sentence}"]


def test_shares_of_two_collections_that_sum_to_more_than_one_are_told(faults: Faults, base: str) -> None:
    text = '[collections.jam]\nkind = "garden"\n[mixtures.m]\nrows = 10\n'
    takes = "take.pickles = { share = 0.7 }\ntake.jam = { share = 0.4 }\n"
    assert faults(base + text + takes) == ["17: mixtures.m: the shares sum to 1.1, which is more than 1"]


def test_the_name_of_a_switch_in_place_of_its_table_is_told_how_that_is_written(faults: Faults, base: str) -> None:
    assert faults(base + '[mixtures.m]\ntake.pickles = "all"\n') == [
        '16: mixtures.m.take.pickles: must be a table, not the text "all"; write { all = true }'
    ]
    assert faults(base + '[mixtures.m]\ntake.pickles = "half"\n') == [
        '16: mixtures.m.take.pickles: must be a table, not the text "half"'
    ]


def test_a_table_where_a_list_of_tables_belongs_is_told_how_that_is_written(faults: Faults, base: str) -> None:
    assert faults(base + '[curriculum]\ndataset = "main"\n') == [
        "15: curriculum: must be a list, not a table; a list of tables is written [[curriculum]]"
    ]


@pytest.mark.parametrize(
    ("setting", "key", "sentence"),
    [
        (
            "learning_rat = 1e-3",
            "learning_rat",
            'curriculum.0.training has no option "learning_rat"; did you mean "learning_rate"?',
        ),
        ("batch_rows = 0", "batch_rows", "must be at least 1, not 0"),
        (
            'schedule = "cosin"',
            "schedule",
            'must be one of "cosine", "constant", "linear", not the text "cosin"',
        ),
        ("seed = 2", "seed", '"seed" holds for all phases; set it in the recipe\'s [training]'),
        ('validation = "chekcs"', "validation", 'there is no dataset "chekcs"; there is "main"'),
    ],
)
def test_settings_of_a_phase_are_checked_with_their_line(
    faults: Faults, base: str, setting: str, key: str, sentence: str
) -> None:
    phase = f'[[curriculum]]\ndataset = "main"\n[curriculum.training]\n{setting}\n'
    assert faults(base + phase) == [f"18: curriculum.0.training.{key}: {sentence}"]


@pytest.mark.parametrize("name", ['"a b"', '"-a"', '"a/b"', '"ü"', '""', '"a\\n"', "a" * 101])
def test_names_that_cannot_be_folders_are_refused(faults: Faults, base: str, name: str) -> None:
    (fault,) = faults(base + f'[collections.{name}]\nkind = "garden"\n')
    assert fault.startswith("15: collections.")
    assert "names become folders" in fault


@pytest.mark.parametrize("name", ["tokenizer", "Tokenizer", '"manifest.json"'])
def test_a_dataset_cannot_have_a_name_that_a_build_needs_itself(faults: Faults, base: str, name: str) -> None:
    (fault,) = faults(base.replace("[datasets.main]", f"[datasets.{name}]"))
    assert "no dataset can have this name" in fault


def test_a_table_without_a_kind_is_told_which_there_are(faults: Faults, base: str) -> None:
    (fault,) = faults(base + "[strategies.s]\nvolume = 1\n")
    assert fault.startswith('15: strategies.s.kind: must be the name of a strategy ("aloud", ')
    assert fault.endswith("; it is missing")


def test_a_kind_that_is_no_text_or_table_is_told_so(faults: Faults, base: str) -> None:
    assert faults(base + "[strategies]\ns = 3\nt = { kind = 4 }\n")[0] == (
        "16: strategies.s: must be a table or the name of a strategy, not the integer 3"
    )


def test_a_recipe_needs_its_tables(faults: Faults) -> None:
    assert faults("seed = 1\n") == [
        '0: name: a recipe needs the option "name"',
        "0: collections: a recipe needs the table [collections]",
        "0: tokenizer: a recipe needs the table [tokenizer]; a chat model brings tokenizer and template: "
        'model = "ORGANISATION/NAME", or its folder, "./name"',
        "0: template: a recipe needs the table [template], unless [tokenizer] names a model that brings one",
    ]


def test_text_of_the_file_cannot_steer_a_terminal(faults: Faults, base: str) -> None:
    (fault,) = faults(base.replace('path = "jars"\n', 'path = "jars"\njars = "\\u001b[2J\\u009b2J"\n'))
    assert fault.endswith('not the text "\\x1b[2J\\x9b2J"')


class _Colour(Enum):
    RED = "red"
    BLUE = "blue"


class _Circle(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    shape: Literal["circle"]
    radius: float


class _Square(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    shape: Literal["square"]
    side: Annotated[float, Field(gt=0)]


class _Stranger(BaseModel):
    """Options as a plugin author might write them."""

    model_config = ConfigDict(extra="forbid", strict=True)
    colour: _Colour = _Colour.RED
    figure: Annotated[_Circle | _Square, Field(discriminator="shape")] | None = None
    level: Literal["auto"] | int = "auto"
    pair: tuple[int, str] = (1, "a")
    code: Annotated[str, Field(pattern="^x", min_length=2, max_length=4)] = "xx"
    few: Annotated[tuple[int, ...], Field(min_length=1, max_length=2)] = (1,)
    even: Annotated[int, Field(multiple_of=2, lt=10)] = 2
    from_: Annotated[int, Field(alias="from")] = 1
    tree: Mapping[str, tuple[_Square, ...]] = {}


@pytest.mark.parametrize(
    ("table", "path", "sentence"),
    [
        ('{"colour": "rad"}', ("colour",), 'must be one of "red", "blue", not the text "rad"'),
        ('{"figure": {"shape": "circle", "radius": "x"}}', ("figure", "radius"), 'must be a number, not the text "x"'),
        ('{"figure": {"shape": "circle"}}', ("figure", "radius"), 'figure needs the option "radius"'),
        ('{"level": "atuo"}', ("level",), 'must be "auto" or an integer, not the text "atuo"'),
        ('{"pair": [1, 2]}', ("pair", 1), "must be a text, not the integer 2"),
        ('{"code": "yy"}', ("code",), 'must match the pattern ^x, and the text "yy" does not'),
        ('{"code": "x"}', ("code",), "must have at least 2 characters"),
        ('{"code": "xxxxx"}', ("code",), "must have at most 4 characters"),
        ('{"few": []}', ("few",), "must hold at least 1 item"),
        ('{"few": [1, 2, 3]}', ("few",), "must hold at most 2 items"),
        ('{"even": 3}', ("even",), "must be a multiple of 2, not 3"),
        ('{"even": 12}', ("even",), "must be less than 10, not 12"),
        ('{"form": 1}', ("form",), 'it has no option "form"; did you mean "from"?'),
        ('{"tree": {"a": [{"shape": "square", "sid": 1}]}}', ("tree", "a", 0, "sid"), 'did you mean "side"?'),
    ],
)
def test_whatever_a_plugin_author_writes_is_complained_of_in_plain_words(
    table: str, path: tuple[str | int, ...], sentence: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        _Stranger.model_validate_json(table)
    found = dict(complaints(caught.value, model=_Stranger, table=json.loads(table), owner="it"))
    assert sentence in found[path]
    assert not any("nput should" in text for text in found.values())


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        ({"shape": "cirkle"}, '"shape" must be one of "circle", "square", not "cirkle"'),
        ({"radius": 1.0}, 'needs the option "shape"'),
    ],
)
def test_a_table_that_its_option_tells_apart_is_told_the_choices(figure: dict[str, object], sentence: str) -> None:
    table = {"figure": figure}
    with pytest.raises(ValidationError) as caught:
        _Stranger.model_validate(table)
    assert complaints(caught.value, model=_Stranger, table=table, owner="it") == [(("figure",), sentence)]


def test_a_list_whose_one_item_is_wrong_is_not_said_to_be_too_short() -> None:
    class Shelf(BaseModel):
        model_config = ConfigDict(strict=True)
        jars: Annotated[tuple[int, ...], Field(min_length=1)]

    with pytest.raises(ValidationError) as caught:
        Shelf.model_validate_json('{"jars": ["ten"]}')
    told = complaints(caught.value, model=Shelf, table={"jars": ["ten"]}, owner="shelf")
    assert told == [(("jars", 0), 'must be an integer, not the text "ten"')]
    with pytest.raises(ValidationError) as caught:
        Shelf.model_validate_json('{"jars": []}')
    told = complaints(caught.value, model=Shelf, table={"jars": []}, owner="shelf")
    assert told == [(("jars",), "must hold at least 1 item")]
