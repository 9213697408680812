"""Rows whose context (all before the answer) an earlier collection of the mixture holds too, each with its twin.

The draw passes them over, and they are listed as lost. Only rows that prove to be duplicates are looked for among the
ids of others, so that a mixture without any pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
    """The finished stages `read` and `contexts` of a collection.

    taken: bool [rows], those that may be taken of it; None: all.
    """

    read: StageFolder
    contexts: StageFolder
    taken: np.ndarray | None = None

    def ids(self) -> pl.DataFrame:
        return read_frame(self.read.file(f"{IDS}.arrow"))

    def examples(self) -> tuple[np.ndarray, Digests]:
        """Find the examples that may be taken, int64 [n], and the digests of their contexts."""
        hi, lo = read_digests(self.contexts)
        keep = self.ids()["keep"].to_numpy()
        rows = np.flatnonzero(keep if self.taken is None else keep & self.taken)
        return rows, (hi[rows], lo[rows])


def duplicates(mine: Contexts, earlier: Sequence[Contexts]) -> pl.DataFrame:
    """Find the rows whose context occurs in an earlier collection.

    Args:
        earlier: collections in the order of the recipe: the first that holds a context is the one that has it.
    Returns: row (int64, rising), id_hi, id_lo, twin_hi, twin_lo.
    """
    import polars as pl

    rows, digests = mine.examples()
    others = [other.examples() for other in earlier]
    held = stand_in(digests, [found for _, found in others])
    if not held.any():
        return no_duplicates()
    mine_held = pl.DataFrame({"row": rows[held], "hi": digests[0][held], "lo": digests[1][held]})
    twins = pl.concat(
        _holders(number, other, *found, mine_held)
        for number, (other, found) in enumerate(zip(earlier, others, strict=True))
    )
    first = twins.sort("collection", "twin").unique(["hi", "lo"], keep="first", maintain_order=True)
    found = mine_held.join(first, on=["hi", "lo"], how="inner").sort("row")
    ids = mine.ids().select("id_hi", "id_lo")[found["row"]]
    return found.select("row", ids["id_hi"], ids["id_lo"], "twin_hi", "twin_lo").cast({"row": pl.Int64})


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


def _holders(number: int, other: Contexts, rows: np.ndarray, digests: Digests, wanted: pl.DataFrame) -> pl.DataFrame:
    """Find the rows of an earlier collection with a wanted context: hi, lo and the row's id."""
    import polars as pl

    found = stand_in(digests, [(wanted["hi"].to_numpy(), wanted["lo"].to_numpy())])
    twins = rows[found]
    ids = other.ids()[twins]
    return pl.DataFrame(
        {
            "hi": digests[0][found],
            "lo": digests[1][found],
            "collection": np.full(len(twins), number),
            "twin": twins,
            "twin_hi": ids["id_hi"],
            "twin_lo": ids["id_lo"],
        }
    )


def duplicates_part(collection: str) -> str:
    """Name the part of an allotment that holds a collection's duplicates."""
    return f"{DUPLICATES}-of-{collection}"
