"""What the README says is executed, so that it stays true."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.recipe.load import load_recipe

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN_LINES = 24


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_first_screen_has_two_commands_that_do_all_the_set_up():
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])
    commands = re.findall(r"^```sh\n(.*?)\n```$", screen, flags=re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert all("\n" not in command and "venv" in command and "constraints.txt" in command for command in commands)
    assert commands[0].endswith("orca-recipe build recipes/quickstart.toml")
    assert "pytest" in commands[1]


def test_the_commands_work_in_their_order(tmp_path: Path):
    shutil.copytree(HOME / "recipes" / "quickstart", tmp_path / "quickstart")
    shutil.copy(HOME / "recipes" / "quickstart.toml", tmp_path / "recipe.toml")
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("orca-recipe ")]
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line.partition("#")[0].partition(">")[0])[1:]
        done = subprocess.run(
            [sys.executable, "-m", "orca_recipes.cli", *words], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}{done.stdout}"


@pytest.mark.parametrize("text", [text for text in blocks("toml") if "[collections" in text])
def test_its_recipes_are_sound(text: str, tmp_path: Path):
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    load_recipe(tmp_path / "recipe.toml", catalogue=Catalogue())


def test_its_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = next(block for block in blocks("python") if "load_recipe" in block)
    shutil.copytree(HOME / "recipes" / "quickstart", tmp_path / "quickstart")
    shutil.copy(HOME / "recipes" / "quickstart.toml", tmp_path / "recipe.toml")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(text, names)
    assert names["build"].verify().is_sound
    assert names["example"].trained.any()


def test_its_hook_is_one():
    text = next(block for block in blocks("python") if "hookimpl" in block)
    names: dict = {}
    exec(text, names)
    assert names["orca_filters"]() == {"no_shouting": "my_package.no_shouting:NoShouting"}


@pytest.mark.parametrize("path", sorted((HOME / "recipes").glob("*.toml")), ids=lambda path: path.name)
def test_every_recipe_of_ours_is_sound(path: Path):
    load_recipe(path, catalogue=Catalogue())
