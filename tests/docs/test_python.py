"""The page for those who work from Python is executed, as a script of theirs would be."""

import shutil
from pathlib import Path

import pytest

from orca_recipes.front.opened import Build, Dataset, Example
from orca_recipes.front.recipe import Recipe
from tests.docs.conftest import DOCS, HOME, blocks

PAGE = (DOCS / "python.md").read_text(encoding="utf-8")


def test_its_lines_run_in_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(HOME / "recipes" / "quickstart", tmp_path / "recipes" / "quickstart")
    shutil.copy(HOME / "recipes" / "quickstart.toml", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    ((_, text),) = blocks("python.md")
    exec(text, names)
    assert names["build"].verify().is_sound
    assert names["example"].trained.any()
    assert "will run" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [Recipe, Build, Dataset, Example])
def test_it_names_all_that_a_class_of_the_front_has(kind: type):
    public = {name for name in {*vars(kind), *kind.__annotations__} if not name.startswith("_")}
    # Read by the command line alone, or asked of `load_recipe` and given back.
    own = {"path", "table", "profile", "set", "loaded", "directory", "build", "name", "shards"}
    missing = {name for name in public - own if f"`{name}" not in PAGE}
    assert not missing
