"""The lock that comes with the quickstart is that of its build: who clones it may build `--locked`."""

import shutil
from pathlib import Path

from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import asked

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_quickstart_builds_to_its_lock(tmp_path: Path):
    for name in ("quickstart.toml", "quickstart.lock"):
        shutil.copy(RECIPES / name, tmp_path)
    shutil.copytree(RECIPES / "quickstart", tmp_path / "quickstart")
    before = (tmp_path / "quickstart.lock").read_bytes()
    made, _ = build(asked(tmp_path / "quickstart.toml", locked=True), Progress())
    assert made.data_digest
    build(asked(tmp_path / "quickstart.toml", out=tmp_path / "unlocked"), Progress())
    assert (tmp_path / "quickstart.lock").read_bytes() == before
