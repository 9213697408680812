"""Sources: where examples come from, cut into slices that are read on their own.

How a source is cut never changes a row or its place, so part sizes and workers decide nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from orca_recipes.contract.kind import Kind

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class SourceFile:
    """One file of a source or tokenizer.

    `name` is how records call it: relative to the source's folder, with forward slashes, the same on every machine.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Slice:
    """One unit of reading: a file or a piece of one, or a span of generated items.

    `start` and `stop` are the source's own measure (bytes, rows, items); `first_place` is the place of its first row.
    Slices are only units of work: how a source is cut never changes a row or its place. The rows of a slice come of its
    file and of files that no slice names: while these stay the same, they are not read again.
    """

    file: SourceFile | None
    start: int
    stop: int
    first_place: int = 1


@dataclass(frozen=True)
class Reading:
    """A bounded batch of what a source read.

    rows: columns of `frames.ROWS` (missing ones are null), `place` always.
    rejected: columns of `frames.REJECTED_ROWS`: place and reason of rows that could not be read.
    passed_over: rows that are none of the collection, by reason: options of the source leave them out.
    not_carried: places of rejected rows that are sound, but hold what is not carried to the model. They are bad rows
        only where any rejection is an error.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    passed_over: Mapping[str, int] = field(default_factory=dict)
    not_carried: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Look:
    """Findings in the first rows of a source: layout, columns, answers, faults.

    shape: the layout that they have, by name, None where none is known or several fit as well. candidates: layouts that
    fit, best first. columns: how a recipe would say that layout, all of it where is_plain. about: it in words. found:
    the columns that rows have. rows, answered: how many were looked at, and how many of them bring an answer. beside:
    what some of them hold beside texts, of "calls", "tools" and "thoughts". unused: columns that nothing reads.
    remarks: what one may not expect of the files that are read, sentences. faults: what would go wrong with them,
    sentences.
    """

    shape: str | None = None
    candidates: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    is_plain: bool = True
    about: str = ""
    found: tuple[str, ...] = ()
    rows: int = 0
    answered: int = 0
    beside: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


PART = "part."
"""What begins the names of columns that texts of several are made of, in `Source.unfound_columns`."""


class Source(Kind, ABC):
    """Reads the examples of a collection.

    `on_bad_row`: "reject" counts and lists bad rows and goes on, "error" stops at the first; unset, more than one bad
    row in a hundred is an error.
    `expected_rows`: the size to plan with before the source was scanned; it decides nothing that is built, nor does
    `license`, which the recipe's `[licenses]` may ask for.
    """

    on_bad_row: Annotated[
        Literal["reject", "error"] | None,
        Field(description="reject: list bad rows and go on; error: stop at the first; unset: error above 1 %"),
    ] = None
    expected_rows: Annotated[
        int | None, Field(ge=0, description="the size to plan with before the source was scanned")
    ] = None

    license: Annotated[
        str | None,
        Field(min_length=1, description='the licence of its rows, as hubs name it: "apache-2.0"; held to [licenses]'),
    ] = None

    def identity(self) -> dict[str, Any]:
        said = super().identity()
        return {name: value for name, value in said.items() if name not in ("expected_rows", "license")}

    @abstractmethod
    def files(self) -> Sequence[SourceFile]:
        """List the files that decide the rows, sorted by name; the core pins their digests. Empty for a generator.

        Raises: SourceError where there is nothing to read.
        """

    def settled(self, *, files: Sequence[str], versions: Mapping[str, str], insist: bool) -> Self:
        """Return the source with every moving name (a branch of the hub) fixed to its present meaning.

        Args:
            files, versions: names of files and `pins` that the lock holds for it, empty where it holds none.
            insist: take what the lock holds without asking whether the world moved on.
        Raises: SourceError where it cannot be told.
        """
        return self

    def afresh(self) -> Self:
        """Return the source without what it remembers of its files; asked once they were read, to see what came or
        went meanwhile."""
        return self

    def looks_to_settle(self, *, versions: Mapping[str, str]) -> bool:
        """Tell whether `settled` looks into files; it then runs in a process with limits.

        Args:
            versions: the `pins` that the lock holds for it, empty where it holds none.
        """
        return False

    def away(self, *, versions: Mapping[str, str]) -> str | None:
        """Say why its data must first be loaded onto this machine, without asking any other; None where they are here.

        Args:
            versions: the `pins` that the lock holds for it, empty where it holds none.
        """
        return None

    def pins(self) -> Mapping[str, str]:
        """Return further versions that decide the rows, by name (a generator's package); the lock keeps them."""
        return {}

    def trains_history(self) -> bool:
        """Tell whether the recipe trains every answer of a brought conversation, also if a new answer ends it; else
        only the new answer is trained."""
        return False

    def second_systems(self) -> Literal["reject", "merge", "keep"]:
        """Return the fate of a row with a system message after its first message: "reject" the row, "merge" all of them
        into the first message, or "keep" them in place."""
        return "reject"

    @abstractmethod
    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut the reading into units of roughly `slice_bytes` of input (a unit that cannot be cut may be larger)."""

    @abstractmethod
    def read(self, *, slice: Slice) -> Iterator[Reading]:
        """Read one slice in batches of bounded size, rows in order of place.

        Raises: SourceError, naming the file, where it cannot be read at all.
        """

    @classmethod
    def layouts(cls) -> Mapping[str, tuple[str, str]]:
        """Return the row layouts known by name, each with a description and an example row."""
        return {}

    def suggested(self) -> Mapping[str, Any]:
        """Return options that a recipe needs to read it, as far as its data tell; for a first recipe, never for a
        build."""
        return {}

    def kept_columns(self) -> Collection[str] | None:
        """Name the columns that its rows keep in `extra`; None where that is not known before they are read.

        What recipes name of them is checked against it, so that a misspelt one is told before anything is built.
        """
        return None

    def look(self) -> Look:
        """Look at the first rows without reading the source; an empty Look where nothing can be told.

        Raises: SourceError where there is nothing to read.
        """
        return Look()

    def unfound_columns(self) -> Mapping[str, str]:
        """Return the columns that the recipe names and first rows lack: ours (or "extra.NAME") to theirs.

        Called once a reading, after it; one that no row behind them has either is refused. Rows do not tell which
        columns a text was made of: one of several, called "part.OURS.PLACE", is returned only if no row at all has it.
        """
        return {}

    def unused_columns(self) -> Sequence[str]:
        """Return columns that its files have and it does not read, for people to see; nothing where that is not known.

        Called once a reading, after it; what it says decides nothing.
        """
        return ()

    def declared_rows(self) -> int | None:
        """Return the number of rows where it is known without reading, else None."""
        return None

    def declared_tasks(self) -> Mapping[str, int] | None:
        """Return the rows of each task where known without reading, else None; `plan` counts tasks with it offline."""
        return None
