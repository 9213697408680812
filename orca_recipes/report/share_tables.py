"""Tables of shares: of collections, tasks, strategies, system messages and teachers, every list bounded.

A column that has one value in the whole dataset is told in a sentence instead of a table of one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from orca_recipes.report.row_samples import clipped
from orca_recipes.report.tallies import NAMED, DatasetTallies, Tally
from orca_recipes.run.closing_table import CollectionLine, collection_lines
from orca_recipes.shards.manifest import Manifest

MOST_LINES = 40
# All tasks would take a page of 100,000 of them past 3 MB; the manifest has them.
_MOST_TASKS = 150
_TASKS_OPEN = 12
_MOST_SHORT = 12
_REASONS_SHOWN = 3
_NAME_CHARS = 160
_TITLES = {"strategy": "Strategies", "system_message": "System messages", "teacher": "Teachers"}
_TITLE_OF_ONE = {"strategy": "Strategy", "system_message": "System message", "teacher": "Teacher"}
_NONE = "(none)"


@dataclass(frozen=True)
class Line:
    """One line of a table of shares; rest: it stands for so many others."""

    name: str
    tally: Tally
    asked: str = ""
    passed_over: int = 0
    rejected: int = 0
    rest: bool = False


@dataclass(frozen=True)
class ShareTable:
    """Lines with their shares of one dataset. A column that would hold zeros alone is left out."""

    title: str
    lines: Sequence[Line]
    with_asked: bool = False
    is_open: bool = True

    @property
    def with_passed_over(self) -> bool:
        return any(line.passed_over for line in self.lines)

    @property
    def with_rejected(self) -> bool:
        return any(line.rejected for line in self.lines)


@dataclass(frozen=True)
class Short:
    """A collection of which rows were rejected, with the greatest reasons; more: other reasons."""

    name: str
    asked: str
    examples: int
    rejected: int
    reasons: Sequence[tuple[str, int]]
    more: int


def named(text: str) -> str:
    """Cut a name to what a table has room for."""
    return clipped(text, _NAME_CHARS)


def share_tables(manifest: Manifest, dataset: str, tallies: DatasetTallies) -> list[ShareTable]:
    """Make the tables of a dataset: collections, tasks, and each column of NAMED with several values."""
    collections = [_line(line) for line in collection_lines(manifest) if line.dataset == dataset]
    counts = manifest.datasets[dataset].collections
    tasks = [
        Line(named(f"{collection}/{task}"), Tally(found.examples, found.tokens, found.trained_tokens))
        for collection, of_collection in counts.items()
        for task, found in of_collection.tasks.items()
    ]
    tables = [ShareTable("Collections", _bounded(collections, MOST_LINES), with_asked=True)]
    if any(list(of_collection.tasks) != [collection] for collection, of_collection in counts.items()):
        tables.append(ShareTable("Tasks", _bounded(tasks, _MOST_TASKS), is_open=len(tasks) <= _TASKS_OPEN))
    for column in NAMED:
        if len(tallies.by[column]) > 1:
            lines = [Line(named(value) or _NONE, tally) for value, tally in sorted(tallies.by[column].items())]
            tables.append(ShareTable(_TITLES[column], _bounded(lines, MOST_LINES)))
    return tables


def alike(tallies: DatasetTallies) -> list[tuple[str, str]]:
    """Name the columns that have one value in the whole dataset, each with it."""
    return [
        (_TITLE_OF_ONE[column], named(next(iter(tallies.by[column]))) or _NONE)
        for column in NAMED
        if len(tallies.by[column]) == 1
    ]


def short(manifest: Manifest) -> tuple[list[Short], int]:
    """List the collections with most rejected rows, and count the ones left out."""
    lines = [line for line in collection_lines(manifest) if line.rejected]
    lines.sort(key=lambda line: -sum(line.rejected.values()))
    return [_short(line) for line in lines[:_MOST_SHORT]], max(0, len(lines) - _MOST_SHORT)


def _short(line: CollectionLine) -> Short:
    return Short(
        named(line.name),
        line.asked,
        line.examples,
        sum(line.rejected.values()),
        list(islice(line.rejected.items(), _REASONS_SHOWN)),
        max(0, len(line.rejected) - _REASONS_SHOWN),
    )


def _line(line: CollectionLine) -> Line:
    return Line(
        named(line.collection),
        Tally(line.examples, line.tokens, line.trained_tokens),
        line.asked,
        sum(line.passed_over.values()),
        sum(line.rejected.values()),
    )


def _bounded(lines: Sequence[Line], most: int) -> list[Line]:
    """Return the lines in their order; if there are more than `most`, the largest ones by tokens and the others summed
    in one line."""
    if len(lines) <= most:
        return list(lines)
    ranked = sorted(range(len(lines)), key=lambda place: (-lines[place].tally.tokens, place))
    kept = [lines[place] for place in ranked[:most]]
    others = [lines[place] for place in ranked[most:]]
    total = Tally()
    for line in others:
        total = total.plus(line.tally)
    told = f"{len(others):,} others"
    lost = (sum(line.passed_over for line in others), sum(line.rejected for line in others))
    return [*kept, Line(told, total, "", *lost, rest=True)]
