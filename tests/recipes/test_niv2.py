"""Real input through the whole path, and stock Megatron as the witness of what came out."""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.layout import GUARD
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.store.store import Store

RECIPE = Path(__file__).parents[2] / "recipes" / "niv2.toml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """The build of `recipes/niv2.toml`, made in a folder of its own."""
    folder = tmp_path_factory.mktemp("niv2")
    recipe = folder / RECIPE.name
    recipe.write_text(RECIPE.read_text().replace("../../shared", shared.resolve().as_posix()))
    shutil.copy(RECIPE.with_suffix(".lock"), folder)
    loaded = load_recipe(recipe, catalogue=Catalogue())
    asked = Asked(loaded=loaded, store=Store(folder / "store"), directory=folder / "build", workers=2, locked=True)
    build(asked, Progress())
    return folder / "build"


@pytest.mark.slow
def test_the_build_of_real_data_is_what_its_lock_says_and_sound(built: Path):
    main = read_manifest(built).datasets["main"]
    assert {name: found.examples for name, found in main.collections.items()} == {
        "chat": 100,
        "gsm8k": 7_473,
        "niv2": 29_999,
    }
    assert float(main.fill) > 0.99
    assert verify(built).findings == ()


@pytest.mark.slow
def test_stock_megatron_opens_every_shard_and_agrees_with_our_reader(built: Path, indexed_dataset: ModuleType):
    for counts in read_manifest(built).datasets["main"].shards:
        ours = Shard.open(built / counts.prefix)
        theirs = indexed_dataset.IndexedDataset(str(built / counts.prefix), multimodal=True)
        kept = np.flatnonzero(theirs.index.sequence_modes != GUARD)
        bounds = np.searchsorted(kept, theirs.index.document_indices)
        assert np.array_equal(bounds, ours.segments.row_starts)
        assert np.array_equal(theirs.index.sequence_lengths[kept], ours.segments.lengths)
        assert np.array_equal(theirs.index.sequence_modes[kept], ours.segments.modes)
        starts = ours.segments.token_starts
        for segment in range(0, len(kept), 97):
            tokens, mode = theirs[int(kept[segment])]
            assert np.array_equal(tokens, ours.tokens[starts[segment] : starts[segment + 1]])
            assert mode == ours.segments.modes[segment]
        for row in range(0, ours.rows, 50):
            segments = kept[bounds[row] : bounds[row + 1]].tolist()
            stored = np.concatenate([theirs[segment][0].copy() for segment in segments])
            assert np.array_equal(stored, ours.row(row).tokens)
        del theirs
