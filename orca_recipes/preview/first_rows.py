"""A trial of the first rows of each collection, before anything is built or bought.

Strategy, teacher and filters look at a few hundred rows as a build would; of a teacher whose answers are bought only
what is asked is made. So a rule that refuses every row is seen in a plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.frames import completed, stored_conversations_schema
from orca_recipes.counted import counted
from orca_recipes.plan.used_parts import collects, prepared_teachers, taken_collections
from orca_recipes.run.conversations.converse import ask, conversed
from orca_recipes.run.conversations.course import ConverseTask, Course, course_of, selected_examples
from orca_recipes.run.conversations.judging import passing
from orca_recipes.run.conversations.matching_rule import UNMATCHED, first_matching
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.selection import taken_copies
from orca_recipes.run.work.account import ACCOUNT, joined_counts
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import IDS, read_frame
from orca_recipes.store.made_conversations import MADE, passed_rows
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl

# Enough that a systematic fault shows, and few enough that every `plan` may try them.
ROWS = 256
_REASONS_SHOWN = 3


@dataclass(frozen=True)
class Trial:
    """Counts of the first rows that a dataset takes of a collection; reasons: stage and reason to rows, untrained: to
    answers that filters leave as context."""

    dataset: str
    collection: str
    tried: int
    rejected: int
    reasons: Mapping[str, int]
    untrained: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        told = f"dataset {self.dataset}: of {counted(self.tried, 'row')} of {self.collection} that were tried, "
        told += f"{self.rejected:,} are rejected" + (f": {_first(self.reasons)}" if self.reasons else "")
        if self.untrained:
            left = counted(sum(self.untrained.values()), "answer")
            told += f", and of the others {left} stay untrained: {_first(self.untrained)}"
        return told + ("; a build that loses all of them is refused" if self.rejected == self.tried else "")


def trials(bench: Bench) -> tuple[Trial, ...]:
    """Try the collections that were read and drawn, and have no conversations yet."""
    finished = bench.store.finished(bench.plan)
    return tuple(
        found
        for dataset in bench.recipe.datasets
        for collection in taken_collections(bench.recipe, dataset)
        if (found := _trial(bench, finished, dataset, collection)) is not None
    )


def trial_lines(found: tuple[Trial, ...]) -> str:
    """Write a line for each trial that lost rows, or answers."""
    return "\n".join(str(trial) for trial in found if trial.rejected or trial.untrained)


def _first(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{number:,} {reason}" for reason, number in list(reasons.items())[:_REASONS_SHOWN])


def _trial(bench: Bench, finished: Collection[str], dataset: str, collection: str) -> Trial | None:
    if f"converse {dataset}/{collection}" in finished or not _is_drawn(bench, finished, dataset, collection):
        return None
    course = course_of(bench, dataset, collection)
    if any(rule.strategy.shots()[1] for rule in course.rules):
        return None  # what a row is shown of others takes all of them
    tried, rejected, reasons = 0, 0, dict[str, int]()
    untrained: dict[str, int] = {}
    for task in _tasks(bench, dataset, collection, course):
        examples = selected_examples(task)
        if (first_matching(examples, [rule.when for rule in course.rules], course.counter) == UNMATCHED).any():
            return None  # the table of rules says it
        if collects(bench.recipe, dataset):
            lost = ask(examples, course)[1]
        else:
            made, lost, _ = conversed(examples, course)
            _, filtered, left = passing(made, course)
            lost, untrained = [*lost, *filtered], joined_counts([untrained, left])
        tried += examples.height
        for frame in lost:
            rejected += frame.height
            for stage, reason, number in frame.group_by("stage", "reason").len().iter_rows():
                reasons[f"{stage}: {reason}"] = reasons.get(f"{stage}: {reason}", 0) + number
    most_first = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return Trial(dataset, collection, tried, rejected, most_first, untrained) if tried else None


def first_conversations(bench: Bench, finished: Collection[str], dataset: str, collection: str) -> pl.DataFrame | None:
    """Return the conversations of the first rows a dataset takes of a collection, after its filters; None where rows
    were not read yet, or answers are missing.

    Args:
        finished: the names of the stages that the store holds.
    """
    import polars as pl

    converse = f"converse {dataset}/{collection}"
    if converse in finished:
        return _stored(bench.folder(converse))
    if collects(bench.recipe, dataset) or not _is_drawn(bench, finished, dataset, collection):
        return None
    course = course_of(bench, dataset, collection)
    if any(rule.strategy.shots()[1] for rule in course.rules):
        return None
    made = [pl.DataFrame(schema=stored_conversations_schema())]
    for task in _tasks(bench, dataset, collection, course):
        examples = selected_examples(task)
        if (first_matching(examples, [rule.when for rule in course.rules], course.counter) == UNMATCHED).any():
            return None
        made.append(passing(conversed(examples, course)[0], course)[0].select(list(stored_conversations_schema())))
    return pl.concat(made)


def _stored(converse: StageFolder) -> pl.DataFrame:
    """Read the first conversations of a stage, ROWS at most."""
    import polars as pl

    found, rows = [pl.DataFrame(schema=stored_conversations_schema())], 0
    for part in converse.parts():
        if part.name == ACCOUNT or rows >= ROWS:
            continue
        frame, passed = read_frame(part.file(MADE)), passed_rows(part)
        frame = completed(frame if passed is None else frame[passed], stored_conversations_schema())
        found.append(frame.head(ROWS - rows))
        rows += found[-1].height
    return pl.concat(found)


def _is_drawn(bench: Bench, finished: Collection[str], dataset: str, collection: str) -> bool:
    """Tell whether the rows of a collection were read and drawn, and its teacher is prepared."""
    teacher = bench.recipe.datasets[dataset].teacher
    needed = [f"read {collection}", f"mix {bench.recipe.datasets[dataset].mixture}/{collection}"]
    needed += [f"prepare {teacher}"] if teacher in prepared_teachers(bench.recipe) else []
    return all(stage in finished for stage in needed)


def _tasks(bench: Bench, dataset: str, collection: str, course: Course) -> Iterator[ConverseTask]:
    """Yield the batches with the first rows that are taken, and select no more than ROWS of these."""
    read = bench.folder(f"read {collection}")
    selected = np.minimum(taken_copies(bench.mixed(dataset, collection)), 1)
    selected[np.cumsum(selected) > ROWS] = 0
    for batch in batches_of(read):
        mine = selected[batch.start : batch.stop]
        if mine.any():
            ids = read.file(f"{IDS}.arrow")
            yield ConverseTask("trial", read.path, batch.path, ids, batch.start, mine, None, course)
