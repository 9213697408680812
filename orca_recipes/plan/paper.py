"""A published mixture beside ours: what its paper states, what this recipe takes, and how far they are apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orca_recipes.recipe.model import Paper

WHOLE = ""
"""Stands for all collections of a mixture together."""


@dataclass(frozen=True)
class PaperRow:
    """One figure of a paper and ours: ours and difference are None where ours is not known.

    collection: "" for the mixture as a whole. note: what the recipe says of it.
    """

    mixture: str
    collection: str
    paper: int
    ours: int | None
    difference: int | None
    note: str


@dataclass(frozen=True)
class PaperTable:
    """All figures of one paper that the recipe names."""

    title: str
    source: str
    rows: tuple[PaperRow, ...]


def paper_table(paper: Paper, ours: Mapping[str, Mapping[str, int | None]]) -> PaperTable:
    """Hold a paper's figures against ours.

    Args:
        ours: mixture to collection (and WHOLE) to rows, None where they are not known.
    """
    rows = tuple(row for name in paper.mixtures for row in _mixture_rows(paper, name, ours.get(name, {})))
    return PaperTable(paper.title, paper.source, rows)


def _mixture_rows(paper: Paper, name: str, ours: Mapping[str, int | None]) -> Iterator[PaperRow]:
    told = paper.mixtures[name]
    for collection, rows in told.collections.items():
        yield _row(name, collection, rows, ours.get(collection), told.notes.get(collection, ""))
    if told.rows is not None:
        yield _row(name, WHOLE, told.rows, ours.get(WHOLE), told.place)


def _row(mixture: str, collection: str, paper: int, ours: int | None, note: str) -> PaperRow:
    return PaperRow(mixture, collection, paper, ours, None if ours is None else ours - paper, note)
