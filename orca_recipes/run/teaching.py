"""What the student is trained on: the strategy's view of question and answer, with the prompt erased or whole.

Erasing sets the student's system message before the strategy teaches, so that a strategy never sees what it must not
repeat; that question and answer were left as they were is checked here, on every example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca_recipes.contract.frames import completed, conversations_schema, examples_schema
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import PluginError
from orca_recipes.run.rules import BoundRule
from orca_recipes.run.system_messages import drawn_texts
from orca_recipes.run.views import teacher_view, without_system

if TYPE_CHECKING:
    import polars as pl

    from orca_recipes.run.converse import Course


def taught(asked: pl.DataFrame, answers: pl.DataFrame, rule: BoundRule, course: Course) -> pl.DataFrame:
    """The conversations of one rule's examples: columns of `frames.CONVERSATIONS`.

    Args:
        asked: what `converse.ask` returned. answers: columns of `frames.ANSWERS`, in the same order, none rejected.
    Raises: PluginError where a strategy erases more than the prompt.
    """
    import polars as pl

    examples, answer = asked.select(list(examples_schema())), answers["answer"]
    system = pl.repeat(None, asked.height, dtype=pl.String, eager=True)
    if course.erase:
        system = drawn_texts(examples, course.student_messages, seed=course.seed, purpose="student system message")
        seen = examples.with_columns(system.alias("system"), without_system(examples["messages"]).alias("messages"))
        messages = plain = rule.strategy.teach(examples=seen, answers=answer)
        _refuse_altered(plain, examples, answer, rule)
    else:
        messages = plain = rule.strategy.teach_whole(examples=examples, answers=answer)
        if course.teacher.reads_requests:
            plain = rule.strategy.teach(examples=examples, answers=answer)
    view = teacher_view(asked["request"], plain, system)
    own = pl.col("answer") if rule.strategy.keeps_own_words else pl.lit(None, dtype=pl.String)
    conversations = asked.with_columns(
        pl.lit(rule.strategy_name).alias("strategy"),
        pl.col("message_id").alias("system_message"),
        pl.lit(course.teacher_name).alias("teacher"),
        (answers["finish_reason"] == "length").fill_null(False).alias("cut"),
        messages.alias("messages"),
        pl.lit(view.told if course.erase else None, dtype=pl.String).alias("teacher_view"),
        pl.coalesce(own, pl.lit(answer)).alias("answer"),
        answers["finish_reason"],
        view.instruction.alias("instruction"),
    )
    return completed(conversations, conversations_schema())


def _refuse_altered(messages: pl.Series, examples: pl.DataFrame, answers: pl.Series, rule: BoundRule) -> None:
    """Erasing takes away what was asked beside, and nothing of question and answer."""
    import polars as pl

    said = pl.element().struct
    last = {
        role: messages.list.eval(said.field("content").filter(said.field("role") == role)).list.last()
        for role in ("user", "assistant")
    }
    alone = examples["messages"].is_null()
    for role, allowed in (("user", [examples["question"]]), ("assistant", [answers, examples["answer"]])):
        kept = [(last[role] == text).fill_null(value=False) for text in allowed]
        if not (~alone | kept[0] | kept[-1]).all():
            what = "question" if role == "user" else "answer"
            raise PluginError(
                f"strategies.{rule.strategy_name}: kind {quoted(rule.strategy.kind)} changes the {what}, and erasing a "
                "prompt must not; tell its author, or do without erase = true"
            )
