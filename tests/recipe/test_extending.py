"""A recipe that extends another one is laid over it, and everybody is told who wrote what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import RecipeError
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.schema import json_schema

Load = Callable[..., LoadedRecipe]
Faults = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path, base: str) -> Callable[..., Path]:
    """Write the pantry's recipe, with more behind it, at a path below the recipe's folder."""

    def written(name: str = "base.toml", more: str = "", text: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((base if text is None else text) + more)
        return path

    return written


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> Callable[[str], Path]:
    """Install a package of a distribution's name that brings the recipe "meal", and must not be run."""

    def installed(distribution: str) -> Path:
        site = tmp_path / "site"
        folder = site / distribution.replace("-", "_") / "recipes"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise RuntimeError('nothing of a package runs')")
        (folder / "meal.toml").write_text(base)
        held = site / f"{folder.parent.name}-1.0.dist-info"
        held.mkdir()
        (held / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (held / "entry_points.txt").write_text(f"[orca_recipes.recipes]\nmeal = {folder.parent.name}.recipes\n")
        monkeypatch.syspath_prepend(str(site))
        return folder

    return installed


def test_tables_join_and_everything_else_is_replaced(load: Load, write: Callable[..., Path]) -> None:
    write(more='[collections.jam]\nkind = "shelf"\npath = "jars"\nlabels = ["a", "b"]\n')
    loaded = load('extends = "base.toml"\nname = "snack"\ntemplate.header = "#"\ncollections.jam.labels = ["c"]\n')
    assert loaded.recipe.name == "snack"
    assert loaded.resolved["template"] == {"kind": "card", "header": "#"}
    assert loaded.resolved["collections"]["jam"] == {"kind": "shelf", "path": "jars", "labels": ["c"]}
    assert "extends" not in loaded.resolved
    assert [each.name for each in loaded.extends] == ["base.toml"]


def test_profiles_of_both_join_and_come_after_and_overrides_last(load: Load, write: Callable[..., Path]) -> None:
    write(more='[profiles.small]\nname = "tiny"\ntemplate = "card"\ncollections.pickles.jars = 2\n')
    text = 'extends = "base.toml"\nname = "snack"\n[profiles.small.template]\nheader = "##"\n'
    loaded = load(text, profile="small", overrides=["collections.pickles.jars=3"])
    assert loaded.recipe.name == "tiny"
    assert loaded.resolved["template"] == {"kind": "card", "header": "##"}
    assert loaded.resolved["collections"]["pickles"]["jars"] == 3


def test_a_recipe_is_laid_over_what_extends_another_itself(load: Load, write: Callable[..., Path]) -> None:
    write("far/low.toml")
    write("far/middle.toml", text='extends = "low.toml"\nseed = 3\n[collections.pickles]\nsubmix = "sweet"\n')
    loaded = load('extends = "far/middle.toml"\nname = "top"\n')
    assert (loaded.recipe.name, loaded.recipe.seed) == ("top", 3)
    assert [each.name for each in loaded.extends] == ["far/middle.toml", "low.toml"]
    assert loaded.resolved["collections"]["pickles"] == {"kind": "shelf", "path": "far/jars", "submix": "sweet"}


def test_paths_mean_what_they_meant_in_the_file_that_wrote_them(
    load: Load, write: Callable[..., Path], tmp_path: Path
) -> None:
    more = '[profiles.p]\ncollections.pickles.path = "../cellar"\n[system_messages.s]\nkind = "file"\npath = "said"\n'
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "said").write_text("Be brief.")
    write("far/base.toml", more=more)
    assert load('extends = "far/base.toml"\n').recipe.collections["pickles"].path == tmp_path / "far" / "jars"
    loaded = load('extends = "far/base.toml"\n', profile="p")
    assert loaded.recipe.collections["pickles"].path == tmp_path / "cellar"
    assert loaded.resolved["system_messages"]["s"]["path"] == "far/said"
    own = load('extends = "far/base.toml"\ncollections.pickles.path = "jars"\n')
    assert own.recipe.collections["pickles"].path == tmp_path / "jars"
    absolute = load('extends = "far/base.toml"\n', overrides=["collections.pickles.path=/jars"])
    assert absolute.recipe.collections["pickles"].path == Path("/jars")


def test_a_fault_stands_at_its_line_in_its_file(load: Load, write: Callable[..., Path], tmp_path: Path) -> None:
    base = write(more="[collections.jam]\nkind = 'shelf'\npath = 'jars'\njars = 0\n")
    with pytest.raises(RecipeError) as caught:
        load('extends = "base.toml"\nsed = 3\n')
    found = [(fault.file, fault.line, fault.path) for fault in caught.value.faults]
    assert found == [(str(tmp_path / "supper.toml"), 2, "sed"), (str(base), 18, "collections.jam.jars")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('extends = "nowhere.toml"\n', "1: extends: there is no such recipe: {folder}/nowhere.toml"),
        ('extends = "supper.toml"\n', "1: extends: goes in a circle: supper.toml -> supper.toml; take one of them out"),
        ('extends = "round.toml"\n', "1: extends: goes in a circle: supper.toml -> round.toml -> supper.toml; take"),
        (
            "seed = 1\nextends = 3\n",
            "2: extends: must be a recipe's file, as in \"base.toml\", or a package's recipe, and",
        ),
        ('extends = "meel"\n', '1: extends: no installed package has a recipe "meel"; did you mean "meal"?; a file is'),
        ('extends = "orca-b:meal"\n', '1: extends: no installed package has a recipe "orca-b:meal"'),
    ],
)
def test_what_cannot_be_extended_is_one_sentence(
    faults: Faults, write: Callable[..., Path], package: Callable[[str], Path], tmp_path: Path, text: str, sentence: str
) -> None:
    package("orca-a")
    write("round.toml", text='extends = "supper.toml"\n')
    (found,) = faults(text)
    assert found.startswith(sentence.format(folder=tmp_path))


def test_a_profile_and_an_override_extend_nothing(faults: Faults, write: Callable[..., Path], base: str) -> None:
    sentence = "extends: is read before a profile and --set; write it at the top of the recipe"
    assert faults(base, overrides=["extends=base.toml"]) == [f"0: {sentence}"]
    assert faults(base + '[profiles.p]\nextends = "base.toml"\n', profile="p") == [f"16: {sentence}"]


def test_a_recipe_of_a_package_is_found_without_running_the_package(load: Load, package: Callable[[str], Path]) -> None:
    folder = package("orca-a")
    for wanted in ("meal", "orca-a:meal"):
        loaded = load(f'extends = "{wanted}"\nname = "mine"\n')
        assert [(each.name, each.path) for each in loaded.extends] == [("orca-a:meal", folder / "meal.toml")]
        assert loaded.recipe.collections["pickles"].path.resolve() == folder / "jars"


def test_two_packages_with_one_recipe_are_both_named(
    faults: Faults, load: Load, package: Callable[[str], Path]
) -> None:
    package("orca-a")
    package("orca-b")
    assert faults('extends = "meal"\n') == [
        '1: extends: orca-a and orca-b each have a recipe "meal"; say which, as in "orca-a:meal"'
    ]
    assert load('extends = "orca-b:meal"\n').extends[0].name == "orca-b:meal"


def test_a_package_that_the_recipe_requires_is_missed_before_its_recipe(faults: Faults) -> None:
    (found,) = faults('extends = "meal"\nrequires.plugins = ["orca-meals>=1"]\n')
    assert found.endswith("which is not installed: pip install 'orca-meals>=1'")


def test_every_value_has_its_origin(load: Load, write: Callable[..., Path], tmp_path: Path) -> None:
    write(more="[profiles.p]\ncollections.pickles.jars = 2\n")
    loaded = load('extends = "base.toml"\nname = "x"\n', profile="p", overrides=["seed=4"])
    found = {path: (value, Path(origin.file).name, origin.line) for path, value, origin in loaded.origins()}
    assert found["name"] == ("x", "supper.toml", 2)
    assert found["rules.0.strategy"] == ("plainly", "base.toml", 7)
    assert found["collections.pickles.path"] == ("jars", "base.toml", 11)
    assert found["collections.pickles.jars"] == (2, "base.toml", 16)
    assert found["seed"] == (4, "--set seed=4", 0)
    assert set(found) == {*_leaves(loaded.resolved)}


def _leaves(value: Any, path: str = "") -> list[str]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = [leaf for key, held in pairs for leaf in _leaves(held, f"{path}.{key}".lstrip("."))]
    return inner or [path]


def test_the_schema_lets_a_recipe_that_extends_one_hold_any_part(catalogue: Catalogue) -> None:
    schema = jsonschema.Draft202012Validator(json_schema(catalogue))
    assert schema.is_valid({"extends": "base.toml", "collections": {"pickles": {"jars": 3}}})
    assert not schema.is_valid({"extends": "base.toml", "collections": {"pickles": {"jarz": 3}}})
    assert not schema.is_valid({"extends": 3})
    assert not schema.is_valid({"seed": 3})
