"""Verb `mix`: how often each row of a collection stands in a mixture.

It runs before anything is asked, so that whatever is refused for its counts is refused first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.plan.mixture import cut_of
from orca_recipes.run.examples.duplicates import duplicates_part, keep_duplicates, read_duplicates
from orca_recipes.run.examples.selection import (
    ASKED,
    TRIED,
    keep_order,
    keep_selection,
    mixture_keys,
    read_selection,
    report_of,
)
from orca_recipes.run.mixtures.draw import Chunk, drawn_copies, measured
from orca_recipes.run.mixtures.draw_of_take import draw_of, duplicates_of
from orca_recipes.run.mixtures.pools import Collection
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `mix` of a mixture's collection."""
    name, _, found = subject.partition("/")
    mixture = bench.recipe.mixtures[name]
    facts: dict[str, Any] = {}
    parts = []
    if mixture.take:
        allot = bench.folder(f"allot {name}") if mixture.holdout is not None else None
        twins = duplicates_of(bench, name, found)
        draw = draw_of(bench, name, found, allot, twins)
        selection, facts = draw.drawn()
        facts |= draw.tokens(selection)
        if draw.take.reserve is not None:
            parts.append(keep_order(folder, *draw.order(selection)))
            parts.append(keep_selection(folder, draw.asked(), ASKED))
    else:
        allotted = bench.folder(f"allot {mixture.holdout_of or name}")
        selection = read_selection(allotted, f"of-{found}")
        twins = read_duplicates(allotted, duplicates_part(found))
    parts += keep_duplicates(folder, twins)
    if bench.limit is not None:
        ids = Collection(bench.folder(f"read {found}")).ids
        tried = limited(selection, ids, limit=bench.limit, seed=bench.recipe.seed)
        parts.append(keep_selection(folder, tried, TRIED))
        report = report_of(tried, facts)
    else:
        report = report_of(selection, facts)
    folder.finish([keep_selection(folder, selection), *parts], report)


def limited(selection: np.ndarray, ids: pl.DataFrame, *, limit: int, seed: int) -> np.ndarray:
    """Limit a selection to its first `limit` examples in keyed order."""
    import polars as pl

    rows = np.flatnonzero(selection > 0)
    copies = selection[rows].astype(np.int64)
    hi, lo = (ids[name].gather(pl.Series(rows)).to_numpy() for name in ("id_hi", "id_lo"))
    group = np.zeros(len(rows), dtype=np.int32)

    def pool() -> list[Chunk]:
        return [Chunk(hi, lo, group, copies)]

    sizes = measured(pool, 1)
    asked = min(limit, int(sizes.weights[0]))
    whole = drawn_copies(pool, cuts=[cut_of(asked, int(sizes.weights[0]), 1)], sizes=sizes, seed=seed)
    left = np.minimum(selection, 0)
    left[rows] = np.where(whole > 0, copies, 0)
    if (missing := asked - int(np.maximum(left, 0).sum())) > 0:  # the row on which the limit falls stands less often
        keys = mixture_keys(id_hi=hi, id_lo=lo, seed=seed)
        rest = np.flatnonzero(whole == 0)
        first = rest[np.lexsort((lo[rest], hi[rest], keys[rest]))[0]]
        left[rows[first]] = missing
    return np.asarray(left)
