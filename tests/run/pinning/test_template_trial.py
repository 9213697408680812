"""Who tries the template: the process that builds, or, of a large build, a worker of it."""

from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import TemplateError
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.run.pinning import template
from orca_recipes.run.pinning.lock_file import lock_path, read_lock
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.shards.manifest import Manifest
from orca_recipes.store.store import Store


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any build counts as large."""
    monkeypatch.setattr("orca_recipes.run.work.workers.BYTES_WORTH_WORKERS", 1)


def made(recipe: Path, folder: str, *overrides: str, workers: int) -> Manifest:
    asked = Asked(
        loaded=load_recipe(recipe, catalogue=Catalogue(), overrides=overrides),
        store=Store(recipe.parent / folder / "store"),
        directory=recipe.parent / folder / "out",
        workers=workers,
    )
    return build(asked, Progress())[0]


def test_a_worker_of_a_large_build_finds_of_the_template_what_the_process_itself_would(recipe: Path, large: None):
    alone = made(recipe, "one", workers=1)
    pinned = read_lock(lock_path(recipe, None))
    lock_path(recipe, None).unlink()
    spread = made(recipe, "two", workers=2)
    assert read_lock(lock_path(recipe, None)) == pinned
    assert spread.digest == alone.digest


def test_the_process_of_a_large_build_loads_no_tokenizer(recipe: Path, large: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(template, "conform", lambda **_: pytest.fail("the template is tried in this process"))
    opened.cache_clear()
    made(recipe, "two", workers=2)
    assert opened.cache_info().currsize == 0


def test_a_template_that_is_refused_is_refused_in_the_same_words_by_a_worker(recipe: Path, large: None):
    said: list[str] = []
    for workers in (1, 2):
        with pytest.raises(TemplateError) as refused:
            made(recipe, f"{workers}", 'template.kind="from_tokenizer"', workers=workers)
        said.append(str(refused.value))
    assert said[0] == said[1]
