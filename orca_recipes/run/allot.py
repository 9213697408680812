"""Verb `allot`: what is decided for all collections of a mixture at once.

A part of another mixture is the first N of its examples in one order that goes through all collections and is drawn
apart from the order that chose them: the first N of a draw itself would be those of the collection drawn most thinly.
A hold-out is drawn as its mixture is, and with it go all rows that hold one of its questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from orca_recipes.errors import Shortfall
from orca_recipes.plan.arrivals import arrival_counts
from orca_recipes.plan.mixture import cut_of, largest_remainder, proportional_counts
from orca_recipes.run.arrow import read_frame, write_frame
from orca_recipes.run.drawing import Chunk, Sizes, drawn_copies, measured
from orca_recipes.run.mix import copy_ids
from orca_recipes.run.questions import Digests
from orca_recipes.run.store import PartWriter, StageFolder
from orca_recipes.run.takes import TakeDraw

HELD = "questions"
_CHUNK_ROWS = 1 << 20


def first_of(
    outer: Mapping[str, np.ndarray], ids: Mapping[str, Digests], *, rows: int, seed: int, where: str
) -> dict[str, np.ndarray]:
    """The first rows of a mixture's examples.

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
    """What a mixture sets aside of each collection: int16 [rows], 1 for rows that are held out.

    Args:
        draws: its takes, over what can be drawn before anything is set aside.
    Raises: Shortfall where there is too little for it.
    """
    wanted = [draw.wanted() for draw in draws]
    parts = largest_remainder(rows, [int(counts.sum()) for counts in wanted])
    made = {}
    for draw, counts, part in zip(draws, wanted, parts, strict=True):
        there = int(draw.sizes.rows.sum())
        if part > there:
            raise Shortfall(
                f"{where}: {part} of {rows} rows are to be held out of collection {draw.name}, which has {there}; "
                "hold out fewer, or add to the collection"
            )
        spread = _spread(draw, counts, part)
        cuts = [cut_of(count, int(size), 1) for count, size in zip(spread, draw.sizes.rows, strict=True)]
        by_rows = replace(draw, collection=replace(draw.collection, weight=None))
        sizes = Sizes(draw.sizes.rows, draw.sizes.rows)
        copies = drawn_copies(by_rows.chunks, cuts=cuts, sizes=sizes, seed=draw.seed, purpose="holdout")
        made[draw.name] = np.where(copies > 0, copies, draw.selection)
    return made


def keep_questions(folder: StageFolder, digests: Sequence[Digests]) -> str:
    """Store the digests of questions that are set aside, as a part; return its name."""
    import polars as pl

    writer = PartWriter(folder.path, HELD)
    halves = {name: np.concatenate([pair[at] for pair in digests]) for at, name in enumerate(("hi", "lo"))}
    write_frame(writer.path(".arrow"), pl.DataFrame(halves, schema={"hi": pl.UInt64, "lo": pl.UInt64}))
    writer.keep([".arrow"], {})
    return HELD


def held_questions(folder: StageFolder) -> Digests:
    frame = read_frame(folder.path / f"{HELD}.arrow")
    return frame["hi"].to_numpy(), frame["lo"].to_numpy()


def _examples(selection: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of each example, and which of its repeats it is: int64 [examples] each."""
    rows = np.flatnonzero(selection > 0)
    counts = selection[rows].astype(np.int64)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(rows, counts), number


def _spread(draw: TakeDraw, counts: np.ndarray, rows: int) -> list[int]:
    """How many rows of each group are held out, so that they are spread as the draw itself is."""
    sizes = draw.sizes.rows
    if draw.take.draw == "uniform_tasks":
        tasks = [name or "" for name in draw.collection.names]
        name = f"holdout\x1f{draw.name}"
        found: list[int] = arrival_counts(
            collection=name, tasks=tasks, capacities=sizes, rows=rows, seed=draw.seed
        ).tolist()
        return found
    return proportional_counts(rows, [Fraction(int(count)) for count in counts], sizes.tolist())
