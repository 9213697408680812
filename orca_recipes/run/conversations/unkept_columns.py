"""Columns named by a recipe and kept by no row, of sources that cannot list theirs before they are read.

What other sources keep is held against a recipe before anything is read (`recipe.drawn`). These are told by their
rows, once they are read: a condition on a column that no row has would hold for none of them, and under `not` for all.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from orca_recipes.errors import SourceError
from orca_recipes.recipe.drawn import unkept_columns
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_table
from orca_recipes.store.stage_folder import StageFolder


def refuse_unkept(bench: Bench, collection: str) -> None:
    """Refuse a recipe that names a column which none of its collections keeps for it.

    Collections that are still being read may keep it; whoever comes after the last of them is told.

    Raises: SourceError.
    """
    recipe = bench.recipe
    if recipe.collections[collection].kept_columns() is not None:
        return  # what it says was looked at when the recipe was read

    def kept(name: str) -> Collection[str] | None:
        said = recipe.collections[name].kept_columns()
        if said is not None:
            return said
        read = bench.folder(f"read {name}")
        return _kept_by_rows(read) if read.published else None

    for path, sentence in unkept_columns(recipe, kept):
        raise SourceError(f"{'.'.join(map(str, path))}: {sentence}")


@lru_cache(maxsize=1024)
def _kept_by_rows(read: StageFolder) -> frozenset[str]:
    """Collect the names of the columns that any row of a collection keeps.

    Each collection asks for all of them, and what a published stage holds never changes.
    """
    import pyarrow.compute as pc

    found: set[str] = set()
    for batch in batches_of(read):
        table = read_table(batch.path)
        if "extra" in table.column_names:
            found |= set(pc.unique(pc.struct_field(pc.list_flatten(table["extra"]), "name")).to_pylist())
    return frozenset(found)
