"""`[requires]`: what is not installed is said with its line of pip, before anything else of the recipe is judged."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import RecipeError
from orca_recipes.recipe.load import load_recipe

REST = """
name = "needing"

[collections.rows]
kind = "a_kind_that_nobody_offers"
"""
OURS = metadata.version("orca-recipes")


def said(folder: Path, requires: str) -> list[tuple[int, str, str]]:
    path = folder / "r.toml"
    path.write_text(f"{requires}{REST}")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, catalogue=Catalogue())
    return [(fault.line, fault.path, fault.sentence) for fault in caught.value.faults]


def test_what_is_missing_is_said_alone_with_its_line_of_pip(tmp_path: Path) -> None:
    found = said(tmp_path, 'requires.plugins = ["orca-nowhere>=1,<2", "pydantic>=2"]\nrequires.orca = ">=99"\n')
    assert found == [
        (
            1,
            "requires.plugins.0",
            "the recipe needs orca-nowhere>=1,<2, which is not installed: pip install 'orca-nowhere>=1,<2'",
        ),
        (
            2,
            "requires.orca",
            f"the recipe needs orca-recipes>=99, and orca-recipes {OURS} is installed: pip install 'orca-recipes>=99'",
        ),
    ]


def test_another_version_is_told_with_the_one_that_is_here(tmp_path: Path) -> None:
    ((_, _, sentence),) = said(tmp_path, 'requires.plugins = ["pydantic<1"]\n')
    assert sentence.endswith(f"pydantic {metadata.version('pydantic')} is installed: pip install 'pydantic<1'")


def test_what_is_met_is_passed_by_and_the_rest_is_judged(tmp_path: Path) -> None:
    found = said(tmp_path, 'requires = { plugins = ["pydantic>=2"], orca = ">=0.1" }\n')
    assert any("a_kind_that_nobody_offers" in sentence for _, _, sentence in found)


@pytest.mark.parametrize(
    ("requires", "sentence"),
    [
        ("requires = 3\n", "must be a table, [requires], and is"),
        ('requires.plugin = ["x"]\n', 'has no option "plugin"; did you mean "plugins"?'),
        ('requires.plugins = "x"\n', "must be a list of packages"),
        ('requires.plugins = ["x y z"]\n', "must be a package with its versions"),
        ("requires.plugins = [3]\n", "must be a package with its versions"),
        ('requires.orca = "new"\n', "must be versions"),
        ("requires.orca = 2\n", "must be versions"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, requires: str, sentence: str) -> None:
    ((_, _, told),) = said(tmp_path, requires)
    assert sentence in told
