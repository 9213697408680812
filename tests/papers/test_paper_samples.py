"""Each paper's recipe, built whole from small real data: several datasets, a curriculum, proven."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca_recipes.cli import main
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.manifest import read_manifest

RECIPES = Path(__file__).parents[2] / "recipes"


def run(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def built(name: str, shared: Path, folder: Path) -> Path:
    """The sample profile of a recipe, with its data wherever the shared data lie."""
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    (folder / "system_messages").mkdir()
    (folder / "system_messages/house.toml").write_bytes((RECIPES / "system_messages/house.toml").read_bytes())
    recipe = folder / f"{name}.toml"
    recipe.write_text(text.replace("../../shared", shared.as_posix()), encoding="utf-8")
    run("build", str(recipe), "--profile", "sample", "--store", str(folder / "store"), "--out", str(folder / name))
    return folder / name


@pytest.mark.parametrize(
    ("name", "datasets", "passes"),
    [
        ("orca-1", ["explain-chatgpt", "explain-gpt4"], [4, 4]),
        ("orca-2", ["cautious", "doctor-patient", "flan", "orca1-chatgpt", "orca1-gpt4"], [1, 3, 4]),
        ("openorca", ["chatgpt", "gpt4"], [4, 4]),
        ("slimorca", ["main"], [3]),
        ("flan-v2", ["main"], [1]),
    ],
)
def test_the_sample_of_a_paper_is_built_whole_and_proven(name, datasets, passes, shared, tmp_path):
    build = built(name, shared, tmp_path)
    manifest, phases = read_manifest(build), read_curriculum(build).phases
    assert sorted(manifest.datasets) == datasets
    assert [phase.epochs for phase in phases] == passes
    for phase in phases:
        assert all(rows == (phase.epochs or 0) * manifest.datasets[found].rows for found, rows in phase.rows.items())
    assert json.loads(run("verify", str(build), "--json"))["findings"] == []
    if name == "orca-2":
        assert manifest.vocabulary_size == 32_003
        shown = run("show", str(build), "--views")
        assert "You are a careful assistant." in shown


def test_a_sample_without_its_data_says_so_in_a_sentence(tmp_path):
    recipe = tmp_path / "openorca.toml"
    recipe.write_bytes((RECIPES / "openorca.toml").read_bytes())
    result = CliRunner().invoke(main, ["build", str(recipe), "--profile", "sample", "--store", str(tmp_path / "store")])
    assert result.exit_code == 2
    assert "openorca_like.jsonl: no such file or folder" in result.output
