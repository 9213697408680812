"""The student's tokenizer is resolved into the files that all else reads, or not at all."""

from pathlib import Path

import pytest

from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import SourceError
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import build
from tests.run.small import asked


def test_a_tokenizer_that_changes_while_it_is_loaded_is_found(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    source = load_recipe(recipe, catalogue=Catalogue()).recipe.tokenizer.path
    path, materialize = recipe.parent / "tokenizer.json", HF.materialize
    path.write_bytes(source.read_bytes())
    recipe.write_text(recipe.read_text().replace(source.as_posix(), "tokenizer.json"))

    def changed(self, **options):
        path.write_bytes(path.read_bytes() + b" ")
        return materialize(self, **options)

    monkeypatch.setattr(HF, "materialize", changed)
    with pytest.raises(SourceError, match=r"it changed while it was read; run the same command again$"):
        build(asked(recipe), Progress())
    monkeypatch.undo()
    build(asked(recipe), Progress())
    assert (recipe.parent / "out" / "manifest.json").is_file()
