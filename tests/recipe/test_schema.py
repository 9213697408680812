"""The JSON Schema tells an editor what a recipe may hold, and agrees with what is read."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Filter
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.schema import json_schema

RECIPES = Path(__file__).parents[2] / "recipes"
SCHEMA = RECIPES / "recipe.schema.json"
Load = Callable[..., LoadedRecipe]
Accepts = Callable[[str], bool]


@pytest.fixture(scope="module")
def schema(catalogue: Catalogue) -> dict[str, Any]:
    return json_schema(catalogue)


@pytest.fixture
def accepts(schema: dict[str, Any]) -> Accepts:
    return lambda text: jsonschema.Draft202012Validator(schema).is_valid(tomllib.loads(text))


VALID = [
    "",
    'filters = ["sieve", { kind = "sieve", max_chars = 3 }]\n',
    'filters = [{ kind = "Pantry:sieve" }]\n',
    'student = { erase = true, system_message = "s/1" }\n[system_messages.s]\nmessages = { 1 = "x" }\n',
    "[mixtures.m]\ntake.pickles = { all = true }\n",
    "[mixtures.m]\ntake.pickles = { rows = 3 }\n",
    "[mixtures.m]\nrows = 9\ntake.pickles = { share = 1, repeat = 2, max_repeat = 4, reserve = 0.1 }\n",
    '[mixtures.m]\ntake.pickles = { rows = 9, draw = "proportional", cap = 3, temperature = 1.5 }\n',
    'mixture = "m"\n[mixtures.m]\ntokens = 9\nholdout = 3\nduplicates = "keep"\ntake.pickles = { share = 1 }\n'
    '[mixtures.n]\nfrom = "m"\nrows = 2\n[mixtures.v]\nholdout_of = "m"\n'
    '[mixtures.o]\nexclude = ["m"]\ntake.pickles = { per_task = 3, allow_shortfall = true }\n',
    '[collections.b]\nkind = "garden"\nexpected_rows = 3\n',
    '[strategies]\na = "aloud"\nb = { kind = "aloud", volume = 3 }\n',
    '[[curriculum]]\ndataset = "main"\nepochs = 2\n',
    '[collections.b]\nkind = "shelf"\npath = "p"\ncolumns = { question = "q" }\n',
    '[collections.b]\nkind = "shelf"\npath = "p"\ncolumns = "q"\nmode = "salty"\nlabels = ["a"]\n',
    '[collections.b]\nkind = "shelf"\npath = "p"\nweights = { a = 0.5 }\n',
    '[collections]\nb = "garden"\n',
    '[profiles.p]\nname = "x"\ntemplate.header = "y"\ncollections.pickles = { jars = 3 }\ncollections.b = "garden"\n',
    "[profiles.p.mixtures.m]\ntake.pickles = { rows = 3 }\n",
]
INVALID = [
    "mixtur = 'm'\n",
    'filters = ["siv"]\n',
    "filters = [{ max_chars = 3 }]\n",
    'filters = [{ kind = "sieve", max_chars = "3" }]\n',
    'filters = [{ kind = "sieve", max_char = 3 }]\n',
    'filters = "sieve"\n',
    "student = { erase = 1 }\n",
    "[mixtures.m]\ntake.pickles = { all = false }\n",
    "[mixtures.m]\ntake.pickles = { rows = 0 }\n",
    "[mixtures.m]\ntake.pickles = { share = 1.5 }\n",
    "[mixtures.m]\ntake.pickles = { share = 0 }\n",
    '[mixtures.m]\ntake.pickles = { rows = 3, draw = "uniform" }\n',
    '[mixtures.m]\nfrom_ = "m"\nrows = 3\n',
    "[mixtures.m]\ntake = {}\n",
    "[mixture.m]\ntake = {}\n",
    '[strategies]\na = "alud"\n',
    '[strategies]\na = { kind = "aloud", volume = "x" }\n',
    "[[curriculum]]\nepochs = 2\n",
    '[[curriculum]]\ndataset = "main"\nepochs = 0\n',
    '[curriculum]\ndataset = "main"\n',
    '[collections]\nb = "shelf"\n',
    '[collections.b]\nkind = "shelf"\n',
    '[collections.b]\nkind = "shelf"\npath = "p"\nmode = "swet"\n',
    '[collections.b]\nkind = "shelf"\npath = "p"\njars = 100\n',
    '[collections.b]\nkind = "shelf"\npath = "p"\ncolumns = { questin = "q" }\n',
    '[collections."a b"]\nkind = "garden"\n',
    "[system_messages.s]\nmessages = {}\n",
]


@pytest.mark.parametrize("tables", VALID)
def test_a_recipe_that_is_read_is_accepted(load: Load, accepts: Accepts, base: str, tables: str) -> None:
    load(base + tables)
    assert accepts(base + tables)


@pytest.mark.parametrize("tables", INVALID)
def test_a_recipe_that_is_refused_is_refused(
    faults: Callable[[str], list[str]], accepts: Accepts, base: str, tables: str
) -> None:
    assert faults(base + tables)
    assert not accepts(base + tables)


@pytest.mark.parametrize(
    "rule",
    ['{ strategy = "plainly", when = { task = "a" } }', '{ strategy = "plainly", when = { task = ["a", "b"] } }'],
)
def test_conditions_are_one_name_or_several(accepts: Accepts, base: str, rule: str) -> None:
    assert accepts(base.replace('{ strategy = "plainly" }', rule))


@pytest.mark.parametrize(
    "rule",
    [
        '{ strategy = "plainly", when = { task = 3 } }',
        "{ when = {} }",
        '{ strategy = "plainly", when = { task = [] } }',
    ],
)
def test_conditions_that_are_no_names_are_refused(accepts: Accepts, base: str, rule: str) -> None:
    assert not accepts(base.replace('{ strategy = "plainly" }', rule))


@pytest.mark.parametrize("profile", ["jars = 'x'\n", "jarz = 3\n", 'kind = "shef"\n'])
def test_a_profile_is_checked_as_far_as_it_goes(accepts: Accepts, base: str, profile: str) -> None:
    assert not accepts(base + "[profiles.p.collections.pickles]\n" + profile)


def test_what_a_recipe_may_leave_out_is_not_required(schema: dict[str, Any]) -> None:
    assert schema["$defs"]["recipe"]["required"] == ["name", "collections", "tokenizer"]


def test_a_template_is_required_unless_a_model_brings_one(accepts: Accepts, base: str) -> None:
    without = base.replace('template = "card"\n', "")
    assert not accepts(without)
    ours = json_schema(Catalogue())
    accepts_ours = jsonschema.Draft202012Validator(ours).is_valid
    recipe = {"name": "x", "collections": {"a": {"kind": "files", "path": "x.jsonl"}}}
    assert accepts_ours({**recipe, "tokenizer": {"model": "org/name"}})
    assert not accepts_ours({**recipe, "tokenizer": {"path": "tokenizer.json"}})


def test_a_fault_is_told_of_the_kind_that_was_chosen(schema: dict[str, Any], base: str) -> None:
    table = tomllib.loads(base + '[collections.b]\nkind = "shelf"\npath = "p"\njars = 100\n')
    (fault,) = jsonschema.Draft202012Validator(schema).iter_errors(table)
    assert list(fault.absolute_path) == ["collections", "b", "jars"]
    assert fault.message == "100 is greater than the maximum of 99"


def test_a_table_of_a_default_kind_needs_no_kind(accepts: Accepts, base: str) -> None:
    text = base.replace('packing = "tight"\n', "").replace('output = "paper"\n', "")
    assert accepts(text + "[packing]\nrow_tokens = 3\n[output]\nshard_tokens = 3\n")
    assert not accepts(text + "[packing]\nrow_token = 3\n")


def test_a_fault_in_a_table_of_a_default_kind_is_told_at_its_option(schema: dict[str, Any], base: str) -> None:
    text = base.replace('packing = "tight"\n', "") + '[packing]\nrow_tokens = "many"\n'
    (fault,) = jsonschema.Draft202012Validator(schema).iter_errors(tomllib.loads(text))
    assert list(fault.absolute_path) == ["packing", "row_tokens"]
    assert fault.message == "'many' is not of type 'integer'"


def test_options_have_their_descriptions_and_defaults(schema: dict[str, Any]) -> None:
    shelf = schema["$defs"]["source.Pantry.shelf"]
    assert shelf["properties"]["jars"] == {
        "default": 12,
        "description": "how many",
        "maximum": 99,
        "minimum": 1,
        "type": "integer",
    }
    assert shelf["description"].startswith("Reads jars.")
    assert schema["$defs"]["recipe"]["properties"]["seed"]["description"] == "decides every draw"


def test_it_is_a_valid_schema_of_plain_json_without_null(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    assert '"null"' not in json.dumps(schema)
    assert ": null" not in json.dumps(schema)


class Grit:
    """A value that no JSON Schema describes."""


class Coarse(Filter, arbitrary_types_allowed=True):
    kind: Literal["coarse"] = "coarse"
    grit: Grit = Grit()

    def reasons(self, **options: Any) -> Any:
        raise AssertionError("a schema runs no kind")


class Mill:
    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        return {"coarse": f"{__name__}:Coarse", "fine": f"{__name__}:Fine", "broken": "nobody.wrote.it:Fine"}


class Fine(Filter):
    kind: Literal["fine"] = "fine"

    def reasons(self, **options: Any) -> Any:
        raise AssertionError("a schema runs no kind")


class OtherMill(Mill):
    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        return {"fine": f"{__name__}:Fine"}


def test_kinds_that_cannot_be_loaded_are_left_out_and_those_that_cannot_be_described_are_open() -> None:
    definitions = json_schema(Catalogue(plugins=[Mill()]))["$defs"]
    assert "filter.Mill.broken" not in definitions
    assert definitions["filter.Mill.coarse"] == {
        "type": "object",
        "properties": {"kind": {"enum": ["coarse", "Mill:coarse"]}},
        "required": ["kind"],
    }


def test_a_kind_that_two_offer_is_accepted_only_with_its_distribution() -> None:
    definitions = json_schema(Catalogue(plugins=[Mill(), OtherMill()]))["$defs"]
    assert definitions["filter.Mill.fine"]["properties"]["kind"] == {"enum": ["Mill:fine"]}
    assert definitions["filter.OtherMill.fine"]["properties"]["kind"] == {"enum": ["OtherMill:fine"]}


def test_the_schema_beside_the_example_recipes_is_the_one_that_is_printed():
    """An editor finds it by their first line; `ORCA_GOLDEN=write` writes it anew."""
    printed = json.dumps(json_schema(Catalogue()), indent=1) + "\n"
    if os.environ.get("ORCA_GOLDEN") == "write":
        SCHEMA.write_text(printed, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == printed


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.toml")))
def test_example_recipes_name_their_schema_and_fit_it(name: str):
    text = (RECIPES / name).read_text(encoding="utf-8")
    assert text.startswith(f"#:schema ./{SCHEMA.name}\n")
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(tomllib.loads(text))
