"""Verb `allot`: what is decided for all collections of a mixture at once.

A part of another mixture is the first N of its examples in one order that goes through all collections and is drawn
apart from the order that chose them: the first N of a draw itself would be those of the collection drawn most thinly.
A hold-out is drawn as its mixture is, and with it go all rows that hold one of its questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.errors import Shortfall
from orca_recipes.plan.arrivals import arrival_counts
from orca_recipes.plan.mixing import mixture_collections
from orca_recipes.plan.mixture import cut_of, largest_remainder, proportional_counts
from orca_recipes.recipe.mixtures import Mixture
from orca_recipes.run.examples.duplicates import duplicates_part, keep_duplicates, read_duplicates
from orca_recipes.run.examples.row_digests import Digests
from orca_recipes.run.examples.selection import EXCLUDED_ROW, RESERVED_ROW, UNREAD, asked_of, copy_ids, keep_selection
from orca_recipes.run.mixtures.draw import Chunk, Sizes, drawn_copies, measured
from orca_recipes.run.mixtures.draw_of_take import draw_of, duplicates_of, mark_excluded, questions_of
from orca_recipes.run.mixtures.pools import Collection
from orca_recipes.run.mixtures.questions import keep_questions
from orca_recipes.run.mixtures.takes import TakeDraw
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl

# Bounds the memory of a draw over many millions of rows.
_CHUNK_ROWS = 1 << 20


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `allot` of a mixture."""
    mixture = bench.recipe.mixtures[subject]
    collections = mixture_collections(bench.recipe, subject)
    if mixture.from_ is not None:
        made = _part(bench, subject, mixture)
        known = {found: read_duplicates(bench.folder(f"mix {mixture.from_}/{found}")) for found in collections}
    else:
        known = {found: duplicates_of(bench, subject, found) for found in collections}
        made = _set_aside(bench, subject, mixture, folder, known)
    names = [keep_selection(folder, selection, f"of-{name}") for name, selection in made.items()]
    for found, twins in known.items():
        names += keep_duplicates(folder, twins, duplicates_part(found))
    names += ["questions"] if mixture.holdout is not None else []
    total = sum(int(np.maximum(selection, 0).astype(np.int64).sum()) for selection in made.values())
    folder.finish(names, {"in": total, "out": total, "rejected": {}})


def _part(bench: Bench, name: str, mixture: Mixture) -> dict[str, np.ndarray]:
    """Select the rows of another mixture that make up this one."""
    assert mixture.from_ is not None
    assert mixture.rows is not None
    outer, ids = {}, {}
    for found in mixture_collections(bench.recipe, name):
        selection = asked_of(bench.folder(f"mix {mixture.from_}/{found}"))
        if mixture.exclude:
            chosen = np.where(selection > 0, 0, UNREAD).astype(np.int16)
            mark_excluded(bench, chosen, found, mixture)
            selection = np.where(np.isin(chosen, (EXCLUDED_ROW, RESERVED_ROW)), chosen, selection).astype(np.int16)
        outer[found] = selection
        columns = Collection(bench.folder(f"read {found}")).ids
        ids[found] = (columns["id_hi"].to_numpy(), columns["id_lo"].to_numpy())
    where = f"mixtures.{name}"
    return first_of(outer, ids, rows=mixture.rows, seed=bench.recipe.seed, where=where)


def _set_aside(
    bench: Bench, name: str, mixture: Mixture, folder: StageFolder, known: Mapping[str, pl.DataFrame]
) -> dict[str, np.ndarray]:
    """Draw the rows that a mixture holds out, and store their questions. known: the duplicates."""
    assert mixture.holdout is not None
    draws = [draw_of(bench, name, found, None, twins) for found, twins in known.items()]
    made = held_out(draws, rows=mixture.holdout, where=f"mixtures.{name}.holdout")
    keep_questions(folder, [questions_of(bench, found).of(selection > 0) for found, selection in made.items()])
    return made


def first_of(
    outer: Mapping[str, np.ndarray], ids: Mapping[str, Digests], *, rows: int, seed: int, where: str
) -> dict[str, np.ndarray]:
    """Take the first rows of a mixture's examples in a keyed order of its own.

    Args:
        outer: selection of each collection, int16 [rows]; examples stand so often. ids: of all its rows, high and low.
    Returns: how often each row stands in the part, by collection; else the number that `outer` has.
    Raises: Shortfall.
    """
    there = sum(int(selection[selection > 0].astype(np.int64).sum()) for selection in outer.values())
    if rows > there:
        raise Shortfall(
            f"{where}: {rows} rows are asked for, and the mixture that they are a part of has {there} to give "
            f"({rows - there} too few); ask for at most {there}, or let it take more"
        )
    places = {name: _examples(selection) for name, selection in outer.items()}

    def pool() -> Iterator[Chunk]:
        for name, (at, number) in places.items():
            hi, lo = ids[name]
            for start in range(0, len(at), _CHUNK_ROWS):
                piece = slice(start, start + _CHUNK_ROWS)
                chosen = at[piece]
                group = np.zeros(len(chosen), dtype=np.int32)
                yield Chunk(hi[chosen], copy_ids(lo[chosen], number[piece]), group)

    taken = drawn_copies(pool, cuts=[cut_of(rows, there, 1)], sizes=measured(pool, 1), seed=seed, purpose="part")
    made, start = {}, 0
    for name, (at, _) in places.items():
        chosen = at[taken[start : start + len(at)] > 0]
        start += len(at)
        made[name] = np.minimum(outer[name], 0)
        made[name] += np.bincount(chosen, minlength=len(made[name])).astype(np.int16)
    return made


def held_out(draws: Sequence[TakeDraw], *, rows: int, where: str) -> dict[str, np.ndarray]:
    """Draw the hold-out of a mixture from each collection: int16 [rows], 1 for rows that are held out.

    Args:
        draws: its takes, over what can be drawn before anything is set aside.
    Raises: Shortfall where there is too little for it.
    """
    wanted = [_in_rows(draw) for draw in draws]
    parts = largest_remainder(rows, [sum(counts) for counts in wanted])
    if sum(parts) < rows:
        raise Shortfall(f"{where}: {rows} rows are to be held out, and there are none to take; add to its collections")
    made = {}
    for draw, counts, part in zip(draws, wanted, parts, strict=True):
        spread = _spread(draw, counts, part)
        if (there := sum(spread)) < part:
            raise Shortfall(
                f"{where}: {part} of {rows} rows are to be held out of collection {draw.name}, which has {there} in "
                "the tasks that are taken of it; hold out fewer, or add to the collection"
            )
        cuts = [cut_of(count, int(size), 1) for count, size in zip(spread, draw.sizes.rows, strict=True)]
        by_rows = replace(draw, collection=replace(draw.collection, weight=None))
        sizes = Sizes(draw.sizes.rows, draw.sizes.rows)
        copies = drawn_copies(by_rows.chunks, cuts=cuts, sizes=sizes, seed=draw.seed, purpose="holdout")
        made[draw.name] = np.where(copies > 0, copies, draw.selection)
    return made


def _examples(selection: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expand a selection to examples: the row of each, and the number of its repeat, int64 [examples] each."""
    rows = np.flatnonzero(selection > 0)
    counts = selection[rows].astype(np.int64)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(rows, counts), number


def _in_rows(draw: TakeDraw) -> list[Fraction]:
    """Count the rows of each group that a take draws; of tokens, as many rows of the group's length as hold them."""
    rows, weights = draw.sizes.rows.tolist(), draw.sizes.weights.tolist()
    wanted = draw.wanted().tolist()
    return [Fraction(count * size, weight or 1) for count, size, weight in zip(wanted, rows, weights, strict=True)]


def _spread(draw: TakeDraw, counts: Sequence[Fraction], rows: int) -> list[int]:
    """Spread held-out rows over groups as the draw itself is spread; fewer where there are no more."""
    sizes = draw.sizes.rows
    if draw.take.draw == "uniform_tasks":
        tasks = [name or "" for name in draw.collection.names]
        # No collection has a control character in its name, so no draw shares these arrivals.
        name = f"holdout\x1f{draw.name}"
        found: list[int] = arrival_counts(
            collection=name, tasks=tasks, capacities=sizes, rows=rows, seed=draw.seed
        ).tolist()
        return found
    return proportional_counts(rows, counts, sizes.tolist())
