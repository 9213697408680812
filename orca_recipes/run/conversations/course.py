"""All settings that decide a dataset's conversations of one collection, and the batches of examples they are made
of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.frames import completed, examples_schema, messages_type
from orca_recipes.contract.kinds import Filter, Teacher
from orca_recipes.plan.compile import course_seed
from orca_recipes.plan.mixing import is_kept_apart
from orca_recipes.plan.used_parts import matching_rules, prepared_teachers, used_collections
from orca_recipes.recipe.train_on import TrainOn
from orca_recipes.run.conversations.matching_rule import BoundRule, Message, QuestionCounter
from orca_recipes.run.conversations.rule_coverage import check_patterns
from orca_recipes.run.conversations.shots import write_pool
from orca_recipes.run.conversations.unkept_columns import refuse_unkept
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.row_digests import Digests, read_digests
from orca_recipes.run.examples.selection import repeated, taken_copies
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import IDS, read_frame, read_table
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

_POOL = "shots"
"""The part that holds the answered examples which strategies may show."""


@dataclass(frozen=True)
class Course:
    """All that decides a dataset's conversations of one collection.

    student_messages: what the student sees where prompts are erased, one drawn for each example; none: no system
    message. prepared: what the teacher looks its answers up in, where it does. counter: where some rule counts tokens.
    shots: the pool of answered examples (`run/shots`), where some strategy shows them. trains_history: whether earlier
    answers of a conversation stay trained where a new one ends it. train_on: what the dataset trains of them, where no
    rule says it; filters look at that. compares: whether conversations are compared, by what their rows ask.
    """

    collection: str
    rules: tuple[BoundRule, ...]
    teacher_name: str
    teacher: Teacher
    prepared: Path | None
    filters: tuple[Filter, ...]
    erase: bool
    student_messages: tuple[Message, ...]
    seed: int
    counter: QuestionCounter | None = None
    shots: Path | None = None
    trains_history: bool = False
    train_on: TrainOn | None = None
    compares: bool = False


@dataclass(frozen=True)
class ConverseTask:
    """One batch of examples: rows [start, stop) of the collection's ids.

    selected: how often each takes part. questions: their digests (high, low), where records are to tell them.
    earlier: files of earlier stages that may hold the very conversations. alike: folders of those whose conversations
    were made of the same, the newest first.
    """

    name: str
    folder: Path
    examples: Path
    ids: Path
    start: int
    selected: np.ndarray
    questions: tuple[np.ndarray, ...] | None
    course: Course
    earlier: tuple[Path, ...] = ()
    alike: tuple[Path, ...] = ()


def course_of(bench: Bench, dataset: str, collection: str) -> Course:
    """Gather all settings that decide a dataset's conversations of a collection."""
    chosen = bench.recipe.datasets[dataset]
    rules = [
        BoundRule(
            when=rule.when,
            strategy_name=rule.strategy,
            strategy=bench.recipe.strategies[rule.strategy],
            messages=_messages(bench, rule.system_messages),
            replace=rule.replace,
            is_expanded=rule.expand == "each",
            train_on=rule.train_on,
        )
        for rule in matching_rules(bench.recipe, collection)
    ]
    student = chosen.student.system_message
    return Course(
        collection=collection,
        rules=tuple(rules),
        teacher_name=chosen.teacher,
        teacher=bench.recipe.teachers[chosen.teacher],
        prepared=_prepared(bench, chosen.teacher),
        filters=chosen.own_filters,
        erase=chosen.student.erase,
        student_messages=_messages(bench, [student] if student else []),
        seed=course_seed(bench.recipe, dataset),
        trains_history=bench.recipe.collections[collection].trains_history(),
        counter=QuestionCounter(bench.recipe.tokenizer, bench.student.folder),
        train_on=chosen.train_on,
        compares=bool(chosen.comparisons),
    )


def batches(bench: Bench, folder: StageFolder, dataset: str, collection: str) -> list[ConverseTask]:
    """Cut the examples of a dataset's collection into batches, as tasks of a stage in this folder."""
    selected, digests = taken_copies(bench.mixed(dataset, collection)), None
    if is_kept_apart(bench.recipe, dataset):
        digests = read_digests(bench.folder(f"questions {collection}"))
    return _batches(bench, folder, dataset, collection, selected, digests)


def all_batches(
    bench: Bench, folder: StageFolder, dataset: str, collection: str, keep: np.ndarray
) -> list[ConverseTask]:
    """Cut all examples into batches as `batches` does, each once, before any is drawn. keep: bool [rows], True for rows
    that are examples."""
    return _batches(bench, folder, dataset, collection, keep.astype(np.int16), None)


def _batches(
    bench: Bench,
    folder: StageFolder,
    dataset: str,
    collection: str,
    selected: np.ndarray,
    digests: Digests | None,
) -> list[ConverseTask]:
    read = bench.folder(f"read {collection}")
    _check_patterns(bench)
    refuse_unkept(bench, collection)
    course = course_of(bench, dataset, collection)
    if any(rule.strategy.shots()[1] for rule in course.rules):
        # Kept as a part, so that workers who see no folder of ours find it; it is dropped when the stage is finished.
        pool = PartWriter(folder.path, _POOL)
        write_pool(
            pool.path(".arrow"),
            batches=batches_of(read),
            ids=read.file(f"{IDS}.arrow"),
            selected=selected > 0,
            seed=bench.recipe.seed,
        )
        pool.keep([".arrow"], {})
        course = replace(course, shots=folder.path / f"{_POOL}.arrow")
    return [
        ConverseTask(
            name=f"part-{batch.start:012d}-{batch.stop:012d}",
            folder=folder.path,
            examples=batch.path,
            ids=read.file(f"{IDS}.arrow"),
            start=batch.start,
            selected=selected[batch.start : batch.stop],
            questions=None if digests is None else tuple(half[batch.start : batch.stop] for half in digests),
            course=course,
        )
        for batch in batches_of(read)
    ]


def selected_examples(task: ConverseTask, *, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read the selected examples of a batch, with their ids: columns of `frames.EXAMPLES`; of others only these."""
    import polars as pl

    ids, schema = read_frame(task.ids).slice(task.start, len(task.selected)), examples_schema()
    there = None
    if columns is not None:
        there = [name for name in read_table(task.examples).column_names if name in columns]
        schema = {name: schema[name] for name in ("id_hi", "id_lo", *columns)}
    frame = read_frame(task.examples, columns=there).with_columns(ids["id_hi"], ids["id_lo"])
    if task.questions is not None and columns is None:
        halves = zip(("question_hi", "question_lo"), task.questions, strict=True)
        frame = frame.with_columns(pl.Series(name, half) for name, half in halves)
    every_row_once = bool((task.selected == 1).all())
    return completed(frame if every_row_once else repeated(frame, task.selected), schema)


def asked_schema() -> dict[str, Any]:
    """Return the columns of the frame made by `ask`."""
    import polars as pl

    return {**examples_schema(), "message_id": pl.String, "rule": pl.Int64, "request": messages_type()}


@dataclass
class _KnownTasks:
    """The tasks of collections that are read by now, asked for once a build; whether all patterns were held to them."""

    tasks: dict[str, list[str]] = field(default_factory=dict)
    are_checked: bool = False


def _check_patterns(bench: Bench) -> None:
    """Refuse a rule whose task pattern fits no task, as far as collections are read. Raises: RuleError."""
    known = bench.shared(_KnownTasks)
    if known.are_checked:
        return
    used = used_collections(bench.recipe)
    for name in used if any(rule.when.task for rule in bench.recipe.rules) else ():
        if name not in known.tasks and (read := bench.folder(f"read {name}")).published:
            known.tasks[name] = list(read.receipt["report"]["tasks"])
    check_patterns(bench.recipe, known.tasks)
    known.are_checked = len(known.tasks) in (0, len(used))


def _prepared(bench: Bench, teacher: str) -> Path | None:
    """Return the folder of a prepared teacher's answers; None if the teacher prepares none."""
    return bench.folder(f"prepare {teacher}").path if teacher in prepared_teachers(bench.recipe) else None


def _messages(bench: Bench, names: Sequence[str]) -> tuple[Message, ...]:
    texts, weights = (
        bench.recipe.system_message_texts(names),
        bench.recipe.system_message_weights(names),
    )
    return tuple(Message(name, text, weight) for (name, text), weight in zip(texts.items(), weights, strict=True))
