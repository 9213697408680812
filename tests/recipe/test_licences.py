"""Licences by source, held to the recipe's list."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orca_recipes.recipe.licences import not_shared
from orca_recipes.recipe.load import LoadedRecipe

Load = Callable[..., LoadedRecipe]
Faults = Callable[..., list[str]]

TABLES = """
[collections.jam]
kind = "garden"
license = "CC-BY-4.0"
[mixtures.m]
take.jam = { all = true }
"""


def licensed(base: str, allow: str, tables: str = TABLES) -> str:
    return base.replace("[datasets.main]", '[datasets.main]\nmixture = "m"') + tables + f"[licenses]\nallow = {allow}\n"


@pytest.mark.parametrize("allow", ['["cc-by-4.0", "mit"]', '"CC-BY-*"'])
def test_a_collection_whose_licence_is_allowed_is_drawn_from(load: Load, base: str, allow: str) -> None:
    recipe = load(licensed(base, allow)).recipe
    assert recipe.collections["jam"].license == "CC-BY-4.0"
    assert "license" not in recipe.collections["jam"].identity()


def test_one_whose_licence_is_not_allowed_is_a_fault(faults: Faults, base: str) -> None:
    (told,) = faults(licensed(base, '["mit", "apache-2.0"]'))
    assert told.endswith(
        'collections.jam.license: its licence "CC-BY-4.0" is none that [licenses] allows ("mit", "apache-2.0"); '
        "allow it, or leave it out"
    )


def test_one_that_says_none_is_a_fault_and_one_that_nobody_draws_from_is_fine(faults: Faults, base: str) -> None:
    (told,) = faults(licensed(base, '"mit"', TABLES.replace('license = "CC-BY-4.0"\n', "")))
    assert told.endswith(
        'collections.jam: its licence is not said, and [licenses] allows "mit" alone; say license = "..."'
    )


def test_an_empty_list_is_a_fault(faults: Faults, base: str) -> None:
    (told,) = faults(licensed(base, "[]"))
    assert "licenses.allow" in told


def test_a_hold_out_is_drawn_from_the_collections_of_its_mixture(faults: Faults, base: str) -> None:
    tables = TABLES.replace("{ all = true }", "{ rows = 9 }\nholdout = 3\n[mixtures.aside]\nholdout_of = 'm'")
    text = licensed(base, '"mit"', tables).replace('mixture = "m"', 'mixture = "aside"')
    (told,) = faults(text)
    assert "collections.jam.license: its licence" in told


@pytest.mark.parametrize(("share", "kept_back"), [('"cc-by-*"', ["herbs"]), ('["mit"]', ["jam", "herbs"]), (None, [])])
def test_only_licences_that_are_named_are_shared(
    load: Load, base: str, share: str | None, kept_back: list[str]
) -> None:
    text = base.replace("[datasets.main]", '[datasets.main]\nmixture = "m"') + TABLES
    text += '[collections.herbs]\nkind = "garden"\n' + (f"[licenses]\nshare = {share}\n" if share else "")
    recipe = load(text).recipe
    assert [name for name in not_shared(recipe) if name in ("jam", "herbs")] == kept_back
