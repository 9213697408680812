"""The tutorial does what it says."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.docs.conftest import RECIPE, ROWS, blocks, run


def test_its_commands_lead_from_a_file_to_data_for_other_trainers(worked: Path):
    assert (worked / "exported-data" / "README.md").is_file()


@pytest.mark.slow
def test_its_commands_lead_from_a_file_to_a_model(trained: Path):
    assert (trained / "exported" / "model.safetensors").is_file()


def test_it_shows_the_recipe_that_init_writes_and_its_additions(worked: Path):
    shown = [text for language, text in blocks("tutorial.md") if language == "toml"]
    assert tomllib.loads("\n".join(shown)) == tomllib.loads((worked / RECIPE).read_text(encoding="utf-8"))


def test_every_row_of_the_file_is_trained(worked: Path):
    done = run(["orca-recipe", "show", "build/pairs", "--json"], worked)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == ROWS
