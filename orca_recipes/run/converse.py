"""Verb `converse`: examples become the conversations that the student is trained on.

The first rule that matches gives an example its strategy and its system message; the teacher answers what the
strategy asks; filters see the conversation that the strategy makes of the answer.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import draw_below, draw_keys
from orca_recipes.contract.frames import completed, conversations_schema, examples_schema, messages_type
from orca_recipes.contract.kinds import Filter, Strategy, Teacher
from orca_recipes.recipe.model import When
from orca_recipes.run.arrow import read_frame, write_frame
from orca_recipes.run.read import count_reasons
from orca_recipes.run.store import PartWriter

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class BoundRule:
    """A rule with what it names: messages are (id, text)."""

    when: When
    strategy_name: str
    strategy: Strategy
    messages: tuple[tuple[str, str], ...]
    replace: bool


@dataclass(frozen=True)
class Course:
    """All that decides a dataset's conversations of one collection.

    rules: the last one matches every example.
    erased_to: the system message (text) that the student sees in place of the teacher's, where prompts are erased.
    """

    collection: str
    rules: tuple[BoundRule, ...]
    teacher_name: str
    teacher: Teacher
    filters: tuple[Filter, ...]
    erase: bool
    erased_to: str | None
    seed: int


@dataclass(frozen=True)
class ConverseTask:
    """One batch of examples: rows [start, stop) of the collection's ids, of which `selected` take part."""

    name: str
    folder: Path
    examples: Path
    ids: Path
    start: int
    selected: np.ndarray
    course: Course


def converse_part(task: ConverseTask) -> int:
    """Make, filter and store the conversations of one batch; return how many were looked at."""
    examples = _selected_examples(task)
    conversations, rejected = _converse(examples, task.course)
    for kind in task.course.filters:
        reasons = kind.reasons(conversations=conversations)
        stage = f"filter {kind.kind}"
        rejected.append(_rejections(conversations, reasons, stage))
        conversations = conversations.filter(reasons.is_null())
    out = _joined(rejected)
    writer = PartWriter(task.folder, task.name)
    write_frame(writer.path(".arrow"), conversations)
    write_frame(writer.path(".rejected.arrow"), out)
    report = {
        "in": examples.height,
        "out": conversations.height,
        "rejected": count_reasons(out["reason"]),
    }
    writer.keep([".arrow", ".rejected.arrow"], report)
    return examples.height


def meets(when: When, values: Mapping[str, str | None]) -> bool:
    """Whether an example with this task and category meets a rule's conditions on them."""
    for name, globs in (("task", when.task), ("category", when.category)):
        value = values[name]
        if globs and not (value is not None and any(fnmatch.fnmatchcase(value, glob) for glob in globs)):
            return False
    return True


def _selected_examples(task: ConverseTask) -> pl.DataFrame:
    import polars as pl

    ids = read_frame(task.ids).slice(task.start, len(task.selected))
    frame = read_frame(task.examples).with_columns(ids["id_hi"], ids["id_lo"])
    return completed(frame.filter(pl.Series(task.selected)), examples_schema())


def _converse(examples: pl.DataFrame, course: Course) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    import polars as pl

    rule_of = _first_matching_rule(examples, course.rules)
    made, rejected = [pl.DataFrame(schema=conversations_schema())], []
    for number, rule in enumerate(course.rules):
        group = examples.filter(rule_of == number)
        if group.height:
            conversations, refused = _under_rule(group, rule, course)
            made.append(conversations)
            rejected.append(refused)
    return pl.concat(made), rejected


def _under_rule(examples: pl.DataFrame, rule: BoundRule, course: Course) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ask, answer and teach one rule's examples."""
    import polars as pl

    refused = _refused(examples, rule)
    dropped = [_rejections(examples, refused, f"strategy {rule.strategy_name}")]
    examples = examples.filter(refused.is_null())
    if rule.replace:
        examples = examples.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in ("system", "answer"))
    examples, message_ids = _with_system_message(examples, rule, course.seed)
    requests = pl.Series("messages", [None] * examples.height, dtype=messages_type())
    if course.teacher.reads_requests:
        requests = rule.strategy.ask(examples=examples)
    answers = course.teacher.answer(examples=examples, requests=requests, seed=course.seed)
    unanswered = answers["reason"]
    dropped.append(_rejections(examples, unanswered, f"teacher {course.teacher_name}"))
    answered = unanswered.is_null()
    examples, answers, message_ids = examples.filter(answered), answers.filter(answered), message_ids.filter(answered)
    messages = rule.strategy.teach(examples=examples, answers=answers["answer"])
    conversations = examples.select("id_hi", "id_lo", "task", "category", "file", "place").with_columns(
        pl.lit(rule.strategy_name).alias("strategy"),
        message_ids.alias("system_message"),
        pl.lit(course.teacher_name).alias("teacher"),
        (answers["finish_reason"] == "length").fill_null(False).alias("cut"),
        _student_view(messages, course).alias("messages"),
    )
    return completed(conversations, conversations_schema()), _joined(dropped)


def _refused(examples: pl.DataFrame, rule: BoundRule) -> pl.Series:
    """Rows that bring their own words, under a strategy that would put others in their place."""
    import polars as pl

    if rule.strategy.keeps_own_words or rule.replace:
        return pl.Series("reason", [None] * examples.height, dtype=pl.String)
    own = pl.any_horizontal(pl.col("system", "answer").is_not_null(), pl.col("messages").is_not_null())
    return examples.select(
        reason=pl.when(own).then(
            pl.lit("the row brings its own answer or system message; say replace = true to replace it")
        )
    )["reason"]


def _with_system_message(examples: pl.DataFrame, rule: BoundRule, seed: int) -> tuple[pl.DataFrame, pl.Series]:
    """Draw one of the rule's system messages for each example; a row's own message stays under `direct`."""
    import polars as pl

    if not rule.messages:
        return examples, pl.Series("system_message", [""] * examples.height, dtype=pl.String)
    keys = draw_keys(
        id_hi=examples["id_hi"].to_numpy(), id_lo=examples["id_lo"].to_numpy(), seed=seed, purpose="system message"
    )
    drawn = draw_below(keys=keys, bounds=np.full(examples.height, len(rule.messages), dtype=np.int64))
    names, texts = (pl.Series([message[part] for message in rule.messages]) for part in (0, 1))
    own = examples["system"].is_not_null() | examples["messages"].is_not_null()
    frame = examples.with_columns(
        drawn_text=texts.gather(drawn.tolist()), drawn_name=names.gather(drawn.tolist()), keeps=own
    )
    frame = frame.with_columns(
        system=pl.when("keeps").then("system").otherwise("drawn_text"),
        drawn_name=pl.when("keeps").then(pl.lit("")).otherwise("drawn_name"),
    )
    return frame.drop("drawn_text", "drawn_name", "keeps"), frame["drawn_name"]


def _student_view(messages: pl.Series, course: Course) -> pl.Series:
    """Prompt erasing: the student's system message in place of the one that the teacher saw."""
    import polars as pl

    if not course.erase:
        return messages
    system = pl.element().struct.field("role") == "system"
    rest = messages.list.eval(pl.element().filter(~system))
    if course.erased_to is None:
        return rest
    head = pl.lit([{"role": "system", "content": course.erased_to, "trained": False}], dtype=messages.dtype)
    return rest.to_frame("messages").select(pl.concat_list(head, pl.col("messages")).alias("messages"))["messages"]


def _first_matching_rule(examples: pl.DataFrame, rules: Sequence[BoundRule]) -> pl.Series:
    """Position of the first rule that matches each example; the last rule of a course matches all."""
    import polars as pl

    distinct = examples.select("task", "category").unique(maintain_order=True)
    first = [
        next(n for n, rule in enumerate(rules) if meets(rule.when, {"task": task, "category": category}))
        for task, category in distinct.iter_rows()
    ]
    table = distinct.with_columns(pl.Series("rule", first, dtype=pl.Int64))
    joined = examples.select("task", "category").join(
        table, on=["task", "category"], how="left", nulls_equal=True, maintain_order="left"
    )
    return joined["rule"]


def _rejections(frame: pl.DataFrame, reasons: pl.Series, stage: str) -> pl.DataFrame:
    import polars as pl

    return (
        frame.select("id_hi", "id_lo", "file", "place")
        .with_columns(reasons.alias("reason"), pl.lit(stage).alias("stage"))
        .filter(pl.col("reason").is_not_null())
    )


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    schema: dict[str, Any] = {
        "id_hi": pl.UInt64,
        "id_lo": pl.UInt64,
        "file": pl.String,
        "place": pl.Int64,
        "reason": pl.String,
        "stage": pl.String,
    }
    return pl.concat([pl.DataFrame(schema=schema), *frames])
