"""Rows whose context (all before the answer) an earlier collection of the mixture holds too, each with its twin.

The draw passes them over, and they are listed as lost. Only rows that prove to be duplicates are looked for among the
ids of others, so that a mixture without any pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.recipe.mixtures import Take
from orca_recipes.run.examples.context_holders import SMALL_ROWS, ContextHolders
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.row_digests import Digests, read_digests, stand_in
from orca_recipes.shards.records import DUPLICATE
from orca_recipes.store.arrow_files import IDS, read_frame, write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

DUPLICATES = "duplicates"


@dataclass(frozen=True)
class Contexts:
    """The finished stages `read` and `contexts` of a collection; take: what a mixture takes of it."""

    read: StageFolder
    contexts: StageFolder
    take: Take

    def ids(self) -> pl.DataFrame:
        return read_frame(self.read.file(f"{IDS}.arrow"))

    def examples(self) -> tuple[np.ndarray, Digests]:
        """Find the examples that may be taken, int64 [n], and the digests of their contexts."""
        hi, lo = read_digests(self.contexts)
        keep = self.ids()["keep"].to_numpy()
        rows = np.flatnonzero(keep & of_taken_tasks(self.read, self.take) if self.take.tasks else keep)
        return rows, (hi[rows], lo[rows])

    def few_examples(self) -> tuple[np.ndarray, Digests] | None:
        """Find the examples as `examples` does, of a small collection; None of a large one."""
        return self.examples() if self.ids().height <= SMALL_ROWS else None


def of_taken_tasks(read: StageFolder, take: Take) -> np.ndarray:
    """Find the rows of the tasks that are taken: bool [rows]."""
    mine = [task for task in read.receipt["report"]["tasks"] if take.is_of_task(task)]
    tasks = (read_frame(batch.path, columns=["task"])["task"] for batch in batches_of(read))
    return np.concatenate([np.empty(0, dtype=np.bool_), *(found.is_in(mine).to_numpy() for found in tasks)])


def duplicates(
    mine: Contexts, earlier: int, contexts: Callable[[int], Contexts], holders: ContextHolders
) -> pl.DataFrame:
    """Find the rows whose context occurs in an earlier collection.

    Args:
        earlier: how many collections stand before, in the order of the recipe: the first that holds a context is the
            one that has it. contexts: of each of them by its place.
        holders: of the mixture; it learns those of them that it does not know.
    Returns: row (int64, rising), id_hi, id_lo, twin_hi, twin_lo.
    """
    import polars as pl

    holders.learn(earlier, lambda number: contexts(number).few_examples())
    rows, digests = mine.examples()
    known, collection, twin = holders.first(digests, before=earlier)
    large = {number: contexts(number).examples() for number in holders.left_out if number < earlier}
    held = known | stand_in(digests, [found for _, found in large.values()])
    if not held.any():
        return no_duplicates()
    mine_held = pl.DataFrame({"row": rows[held], "hi": digests[0][held], "lo": digests[1][held]})
    found = {number: _chosen(examples, mine_held) for number, examples in large.items()}
    for number in np.unique(collection[known]).tolist():
        chosen = known & (collection == number)
        found[number] = twin[chosen], (digests[0][chosen], digests[1][chosen])
    twins = pl.concat(_holders(number, contexts(number), *one) for number, one in found.items())
    first = twins.sort("collection", "twin").unique(["hi", "lo"], keep="first", maintain_order=True)
    joined = mine_held.join(first, on=["hi", "lo"], how="inner").sort("row")
    ids = mine.ids().select("id_hi", "id_lo")[joined["row"]]
    return joined.select("row", ids["id_hi"], ids["id_lo"], "twin_hi", "twin_lo").cast({"row": pl.Int64})


def no_duplicates() -> pl.DataFrame:
    import polars as pl

    names = ("id_hi", "id_lo", "twin_hi", "twin_lo")
    return pl.DataFrame(schema={"row": pl.Int64, **dict.fromkeys(names, pl.UInt64)})


def duplicate_rows(found: pl.DataFrame) -> np.ndarray:
    """Return int64: the rows of what `duplicates` found."""
    return found["row"].to_numpy()


def keep_duplicates(folder: StageFolder, found: pl.DataFrame, name: str = DUPLICATES) -> list[str]:
    """Store the duplicates, if there are any, as a part; return the names of stored parts."""
    if not found.height:
        return []
    writer = PartWriter(folder.path, name)
    write_frame(writer.path(".arrow"), found)
    writer.keep([".arrow"], {})
    return [name]


def read_duplicates(folder: StageFolder, name: str = DUPLICATES) -> pl.DataFrame:
    """Read the duplicates of a stage; an empty frame if it stored none."""
    path = folder.file(f"{name}.arrow")
    return read_frame(path) if path.exists() else no_duplicates()


def rejected_duplicates(read: StageFolder, found: pl.DataFrame) -> pl.DataFrame:
    """Turn duplicates into rejections: with file, place, stage and reason."""
    import polars as pl

    rows, pieces = duplicate_rows(found), []
    for batch in batches_of(read) if len(rows) else ():
        first, last = np.searchsorted(rows, (batch.start, batch.stop))
        if last > first:
            inside = read_frame(batch.path, columns=["file", "place"])[rows[first:last] - batch.start]
            pieces.append(found.slice(first, last - first).hstack(inside))
    joined = pl.concat(pieces) if pieces else found
    return joined.with_columns(stage=pl.lit("mix"), reason=pl.lit(DUPLICATE))


def _chosen(examples: tuple[np.ndarray, Digests], wanted: pl.DataFrame) -> tuple[np.ndarray, Digests]:
    """Choose the examples that hold a wanted context."""
    rows, digests = examples
    found = stand_in(digests, [(wanted["hi"].to_numpy(), wanted["lo"].to_numpy())])
    return rows[found], (digests[0][found], digests[1][found])


def _holders(number: int, other: Contexts, twins: np.ndarray, digests: Digests) -> pl.DataFrame:
    """Tell of rows of an earlier collection: hi, lo and the row's id."""
    import polars as pl

    ids = other.ids()[twins]
    return pl.DataFrame(
        {
            "hi": digests[0],
            "lo": digests[1],
            "collection": np.full(len(twins), number),
            "twin": twins,
            "twin_hi": ids["id_hi"],
            "twin_lo": ids["id_lo"],
        }
    )


def duplicates_part(collection: str) -> str:
    """Name the part of an allotment that holds a collection's duplicates."""
    return f"{DUPLICATES}-of-{collection}"
