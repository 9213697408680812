"""Each paper's recipe, built whole from small data: several datasets, a curriculum, proven."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca_recipes.cli.main import main
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.manifest import read_manifest

RECIPES = Path(__file__).parents[2] / "recipes"


def run(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def copied(folder: Path) -> Path:
    """The recipes alone, as a clone holds them, with nothing beside them."""
    shutil.copytree(RECIPES, folder / "recipes")
    return folder / "recipes"


def built(recipe: Path, *, profile: str) -> Path:
    folder = recipe.parents[1]
    out = folder / recipe.stem
    run("build", str(recipe), "--profile", profile, "--store", str(folder / "store"), "--out", str(out))
    return out


SAMPLES = pytest.mark.parametrize(
    ("name", "datasets", "passes"),
    [
        ("orca-1", ["explain-chatgpt", "explain-gpt4"], [4, 4]),
        ("orca-2", ["cautious", "doctor-patient", "flan", "orca1-chatgpt", "orca1-gpt4"], [1, 3, 4]),
        ("openorca", ["chatgpt", "gpt4"], [4, 4]),
        ("slimorca", ["main"], [3]),
        ("flan-v2", ["main"], [1]),
    ],
)


def assert_whole_and_proven(build: Path, datasets: list[str], passes: list[int]) -> None:
    manifest, phases = read_manifest(build), read_curriculum(build).phases
    assert sorted(manifest.datasets) == datasets
    assert [phase.epochs for phase in phases] == passes
    for phase in phases:
        assert all(rows == (phase.epochs or 0) * manifest.datasets[found].rows for found, rows in phase.rows.items())
    assert json.loads(run("verify", str(build), "--json"))["findings"] == []


@SAMPLES
def test_the_sample_of_a_paper_is_built_in_a_bare_clone(name, datasets, passes, tmp_path):
    build = built(copied(tmp_path) / f"{name}.toml", profile="sample")
    assert_whole_and_proven(build, datasets, passes)
    if name == "orca-2":
        assert "You are a careful assistant." in run("show", str(build), "--views")


def test_the_sample_of_niv2_is_built_in_a_bare_clone(tmp_path):
    build = built(copied(tmp_path) / "niv2.toml", profile="sample")
    assert_whole_and_proven(build, ["main"], [1])
    assert sorted(read_manifest(build).datasets["main"].collections) == ["chat", "gsm8k", "niv2"]


@pytest.mark.slow
@SAMPLES
def test_the_recipe_of_a_paper_is_built_whole_from_real_data(name, datasets, passes, shared, tmp_path):
    recipe = copied(tmp_path) / f"{name}.toml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("../../shared", shared.as_posix()), encoding="utf-8")
    build = built(recipe, profile="shared")
    assert_whole_and_proven(build, datasets, passes)
    if name == "orca-2":
        assert read_manifest(build).vocabulary_size == 32_003
        assert "You are a careful assistant." in run("show", str(build), "--views")


def test_a_sample_without_its_data_says_so_in_a_sentence(tmp_path):
    recipe = tmp_path / "openorca.toml"
    recipe.write_bytes((RECIPES / "openorca.toml").read_bytes())
    result = CliRunner().invoke(main, ["build", str(recipe), "--profile", "sample", "--store", str(tmp_path / "store")])
    assert result.exit_code == 2
    assert "openorca.jsonl.gz: no such file or folder" in result.output
