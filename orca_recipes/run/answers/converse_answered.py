"""Verb `converse` where answers were collected: what was asked and what was answered become conversations.

Several answers to one question are judged in the order of their sample numbers: the first that all filters keep is
kept, so that which one it is follows from the answers alone. Those after it were not asked (`run/best_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_recipes.contract.frames import stored_conversations_schema
from orca_recipes.run.answers.requests import asked_parts, whole
from orca_recipes.run.conversations.converse import count_echoes, keep_part, teach, write_asked
from orca_recipes.run.conversations.course import Course, course_of
from orca_recipes.run.conversations.judging import passing
from orca_recipes.run.conversations.rejections import rejections
from orca_recipes.run.conversations.teaching import taught_schema
from orca_recipes.run.work.account import joined_counts, read_account
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

BETTER = "best of: an answer before it was kept"
IDENTITY = ["id_hi", "id_lo", "strategy", "system_message"]
"""What tells one conversation of a dataset from another, whichever answer it holds."""


@dataclass(frozen=True)
class AnsweredTask:
    """One part of what was asked, and of its answers in the same order."""

    name: str
    folder: Path
    asked: Path
    answers: Path
    course: Course


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `converse` of what was asked and answered."""
    dataset, _, collection = subject.partition("/")
    asked, answers = bench.folder(f"ask {subject}"), bench.folder(f"answer {subject}")
    parts, course = asked_parts(asked), course_of(bench, dataset, collection)
    tasks = [
        AnsweredTask(part.name, folder.path, part.path(".arrow"), answers.path / f"{part.name}.arrow", course)
        for part in parts
    ]
    sizes = [part.report["out"] for part in parts]
    bench.map_parts(folder, f"converse {subject}", answered_part, tasks, sizes, "answers")
    names = [task.name for task in tasks]
    reports = [folder.part(name).report for name in names]
    facts = {
        "strategies": summed(report["strategies"] for report in reports),
        "rejections": added(report["rejections"] for report in reports),
    }
    bench.finish_counted(folder, names, "converse", "conversation", read_account(answers), facts)


def answered_part(task: AnsweredTask) -> int:
    """Make, filter and store the conversations of one part; return how many answers were looked at."""
    import polars as pl

    asked, answers = whole(read_frame(task.asked)), read_frame(task.answers)
    echoes = 0
    kept: list[pl.DataFrame] = [pl.DataFrame(schema=taught_schema(task.course))]
    rejected: list[pl.DataFrame] = []
    untrained: dict[str, int] = {}
    for sample in asked["sample"].unique().sort():
        unasked = (asked["sample"] == sample) & asked["key"].is_not_null() & answers["key"].is_null()
        rejected.append(_late(asked.filter(unasked)))
        mine = (asked["sample"] == sample) & ~unasked
        made, lost = teach(asked.filter(mine), answers.filter(mine), task.course)
        echoes += count_echoes(made)
        made, late = _without(made, kept)
        made, filtered, left = passing(made, task.course)
        untrained = joined_counts([untrained, left])
        kept.append(made)
        rejected += [*lost, *late, *filtered]
    out = pl.concat(kept)
    facts: dict[str, Any] = {
        "strategies": _earned(asked, answers, out, task.course),
        "rejections": _by_task(asked, rejected, task.course),
        "echoes": echoes,
        **({"untrained": untrained} if untrained else {}),
    }
    made = out.select(list(stored_conversations_schema()))
    writer = PartWriter(task.folder, task.name)
    keep_part(writer, asked.height, made, rejected, beside=write_asked(writer, out), **facts)
    return asked.height


def summed(parts: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    """Add up counts by strategy."""
    sums: dict[str, list[int]] = {}
    for part in parts:
        for strategy, counts in part.items():
            mine = sums.setdefault(strategy, [0] * len(counts))
            mine[:] = [old + new for old, new in zip(mine, counts, strict=True)]
    return dict(sorted(sums.items()))


def _earned(asked: pl.DataFrame, answers: pl.DataFrame, kept: pl.DataFrame, course: Course) -> dict[str, list[int]]:
    """Map strategies to answers, those kept, and the tokens in and out of all of them."""
    import polars as pl

    names = pl.Series([rule.strategy_name for rule in course.rules], dtype=pl.String)
    frame = answers.select("input_tokens", "output_tokens", strategy=names.gather(asked["rule"]))
    frame = frame.filter(answers["key"].is_not_null())
    sums = frame.group_by("strategy").agg(pl.len(), pl.col("input_tokens", "output_tokens").sum())
    counts = dict(kept["strategy"].value_counts().iter_rows())
    return {
        name: [number, counts.get(name, 0), taken, given]
        for name, number, taken, given in sums.sort("strategy").iter_rows()
    }


def added(parts: Iterable[Iterable[Sequence[Any]]]) -> list[list[Any]]:
    """Add up lines that end in a number, those with equal beginnings as one, in order."""
    sums: dict[tuple[Any, ...], int] = {}
    for part in parts:
        for *names, number in part:
            sums[tuple(names)] = sums.get(tuple(names), 0) + number
    return [[*names, number] for names, number in sorted(sums.items(), key=lambda item: list(map(str, item[0])))]


def _by_task(asked: pl.DataFrame, rejected: Sequence[pl.DataFrame], course: Course) -> list[list[Any]]:
    """Count the answers that were rejected, by task, strategy, stage and reason."""
    import polars as pl

    ids = ["id_hi", "id_lo"]
    names = pl.Series([rule.strategy_name for rule in course.rules], dtype=pl.String)
    known = asked.select(*ids, "task", names.gather(asked["rule"]).alias("strategy")).unique(ids)
    lines = [frame.select(*ids, "stage", "reason") for frame in rejected]
    if not lines:
        return []
    counted = pl.concat(lines).join(known, on=ids, how="left").group_by("task", "strategy", "stage", "reason").len()
    return added([counted.iter_rows()])


def _without(made: pl.DataFrame, kept: list[pl.DataFrame]) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Return conversations of examples that have none yet."""
    import polars as pl

    there = pl.concat(kept).select(IDENTITY)
    rest = made.join(there, on=IDENTITY, how="anti", maintain_order="left")
    late = made.join(there, on=IDENTITY, how="semi", maintain_order="left")
    return rest, [_late(late)]


def _late(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return rejections(frame, pl.Series([BETTER] * frame.height, dtype=pl.String), "best of")
