"""Builds to export, made by the compiler once: the quickstart on a few examples, and two datasets of sums."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.builds import make_build

HOME = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart on 400 examples, in two shards."""
    folder = tmp_path_factory.mktemp("quickstart")
    words = ["--limit", "400", "--set", "output.shard_tokens=10000", "--out", "build", "--store", "store"]
    recipe = HOME / "recipes" / "quickstart.toml"
    done = subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", "build", str(recipe), *words],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "build"


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of two datasets."""
    return make_build(tmp_path_factory.mktemp("sums") / "made")
