"""What the README says is executed, so that it stays true."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.pieces import PIECES
from orca_recipes.recipe.load import load_recipe

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN_LINES = 24


GUIDE = (HOME / "docs" / "writing-recipes.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


def test_the_first_screen_has_two_commands_that_do_all_the_set_up():
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])
    commands = re.findall(r"^```sh\n(.*?)\n```$", screen, flags=re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert all("\n" not in command and "venv" in command and "constraints.txt" in command for command in commands)
    assert commands[0].endswith("orca-recipe build recipes/quickstart.toml")
    assert "pytest" in commands[1]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command prints, one after the other, in a folder in which the quickstart lies as it does in a clone."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(HOME / "recipes" / "quickstart", clone / "recipes" / "quickstart")
    shutil.copy(HOME / "recipes" / "quickstart.toml", clone / "recipes")
    told = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("orca-recipe ")]
    shown = [line.removeprefix("$ ") for line in blocks("text")[0].splitlines() if line.startswith("$ ")]
    return {line: orca(clone, line) for line in [*told, *shown]}


def test_the_commands_work_in_their_order(printed: dict[str, str]):
    assert len(printed) >= 8


@pytest.mark.parametrize("text", [*blocks("toml"), *blocks("toml", GUIDE)])
def test_its_recipes_are_sound(text: str, tmp_path: Path):
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    load_recipe(tmp_path / "recipe.toml", catalogue=Catalogue())


def orca(folder: Path, line: str) -> str:
    words = shlex.split(line.partition("#")[0].partition(">")[0])[1:]
    command = [sys.executable, "-m", "orca_recipes.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == 0, f"{line}\n{done.stderr}{done.stdout}"
    return done.stdout


def test_what_it_shows_is_what_is_printed(printed: dict[str, str]):
    (session,) = blocks("text")
    runs = [run.partition("\n") for run in session.removeprefix("$ ").split("\n$ ")]
    plan, show, explain = (text for _, _, text in runs)
    of_plan, of_show, of_explain = (printed[command] for command, _, _ in runs)
    # What a fingerprint is made of may grow; all else that the excerpt says stays.
    assert _without_fingerprints(plan) == _without_fingerprints(of_plan.split("\n\n")[0])
    assert show.strip() in of_show
    lines = iter(of_explain.splitlines())
    assert all(line in lines for line in explain.splitlines()), "not these lines, in this order"


def _without_fingerprints(page: str) -> list[str]:
    return [re.sub(r"\b[0-9a-f]{12}\b", "FINGERPRINT", line).rstrip() for line in page.strip().splitlines()]


def test_its_table_of_hooks_names_every_kind_that_ships():
    for piece in PIECES:
        (line,) = re.findall(rf"^\| `{piece.hook}` \| (.*) \|$", README, flags=re.MULTILINE)
        ours = [offer.name for offer in Catalogue().offers(piece.hook) if offer.distribution == "orca-recipes"]
        assert re.findall(r"`(.*?)`", line) == ours


@pytest.mark.parametrize("path", sorted((HOME / "recipes").glob("*.toml")), ids=lambda path: path.name)
def test_every_recipe_of_ours_is_sound(path: Path):
    load_recipe(path, catalogue=Catalogue())
