"""Whatever a TOML file holds, it is a recipe or refused with sentences: never a traceback."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import Fault, RecipeError
from orca_recipes.recipe.load import load_recipe
from orca_recipes.recipe.schema import json_schema

WHOLE = """
name = "supper"
tokenizer = "letters"
packing = { kind = "tight", row_tokens = 8 }
output = "paper"
engine = "kitchen"
curriculum = [{ dataset = "main", epochs = 2 }]
[collections.s]
kind = "shelf"
path = "jars"
columns = { question = "q" }
labels = ["a"]
weights = { a = 0.5 }
[mixtures.main]
take = { s = { rows = 3 } }
[system_messages.s]
messages = { 1 = "Be brief." }
[strategies.loud]
kind = "aloud"
[[rules]]
when = { collection = "s", task = ["a", "b"] }
strategy = "loud"
system_messages = ["s/1"]
[[rules]]
strategy = "plainly"
[datasets.main]
teacher = "book"
filters = ["sieve", { kind = "sieve", max_chars = 3 }]
student = { erase = true, system_message = "s/1" }
[template]
kind = "card"
[profiles.main]
seed = 3
"""
WORDS = st.sampled_from(["shelf", "garden", "aloud", "book", "sieve", "card", "Pantry:card", "main", "s/1", "s", "x y"])
NAMES = st.sampled_from(["kind", "main", "s", "1", "take", "when", "filters", "profiles", "seed", "x y", "é", ""])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(-2, 2), st.integers(), st.booleans(), st.floats(), st.dates(), WORDS, st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


def _holders(value: Any) -> Iterator[Any]:
    """Every table and every list that is not empty."""
    if isinstance(value, dict | list):
        if isinstance(value, dict) or value:
            yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """A whole recipe in which some values are replaced, some added, some taken away."""
    table = copy.deepcopy(tomllib.loads(WHOLE))
    for _ in range(draw(st.integers(1, 4))):
        holder = draw(st.sampled_from(list(_holders(table))))
        if isinstance(holder, list):
            holder[draw(st.integers(0, len(holder) - 1))] = draw(VALUES)
        else:
            key = draw(st.one_of(st.sampled_from(sorted(holder)), NAMES) if holder else NAMES)
            holder[key] = draw(VALUES)
            if draw(st.booleans()):
                del holder[key]
    return table


@settings(max_examples=300, deadline=None)
@given(
    table=spoilt(),
    profile=st.sampled_from([None, "main"]),
    overrides=st.lists(st.tuples(NAMES, NAMES, WORDS), max_size=2),
)
def test_any_toml_is_a_recipe_or_refused_with_sentences(
    tmp_path_factory: pytest.TempPathFactory,
    catalogue: Catalogue,
    table: dict[str, Any],
    profile: str | None,
    overrides: list[tuple[str, str, str]],
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(tomli_w.dumps(table).encode())
    for fault in _faults(path, catalogue, profile, [f"{key}.{inner}={value}" for key, inner, value in overrides]):
        assert fault.sentence
        assert "\n" not in fault.sentence
        assert "nput should" not in fault.sentence


@pytest.fixture(scope="module")
def validate(catalogue: Catalogue) -> Callable[[dict[str, Any]], None]:
    whole = jsonschema.Draft202012Validator(json_schema(catalogue))
    return lambda table: whole.validate(table)


@settings(max_examples=100, deadline=None)
@given(table=spoilt())
def test_an_editor_accepts_whatever_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    catalogue: Catalogue,
    validate: Callable[[dict[str, Any]], None],
    table: dict[str, Any],
) -> None:
    table.pop("profiles", None)  # an editor checks them all, a reader the one that is chosen
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(tomli_w.dumps(table).encode())
    if not _faults(path, catalogue, None, []):
        validate(table)


def _faults(path: Path, catalogue: Catalogue, profile: str | None, overrides: list[str]) -> Sequence[Fault]:
    try:
        load_recipe(path, catalogue=catalogue, profile=profile, overrides=overrides)
    except RecipeError as refused:
        return refused.faults
    return ()
