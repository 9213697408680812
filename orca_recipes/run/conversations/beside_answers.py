"""Put what a teacher's answer holds beside its text, thoughts and calls of tools, into the conversation made of it.

Strategies are handed texts alone and know nothing of it: it goes to the message that ends a conversation, which is the
answer.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from orca_recipes.contract.frames import BESIDE_ANSWER, answers_schema, completed_messages
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import PluginError
from orca_recipes.run.conversations.matching_rule import BoundRule

if TYPE_CHECKING:
    import polars as pl


_CALLS_ALONE = "a tool call in place of an answer"


def answer_columns(answers: pl.DataFrame, left_out: Set[str]) -> pl.DataFrame:
    """Select the columns of `frames.ANSWERS`, and those of `frames.BESIDE_ANSWER` that are there and not left out.

    An answer whose calls are left out and that says nothing else gets a reason.
    """
    import polars as pl

    beside = [name for name in BESIDE_ANSWER if name in answers.columns]
    if "tool_calls" in beside and "tool_calls" in left_out:
        says_nothing = pl.col("tool_calls").is_not_null() & (pl.col("answer").str.strip_chars() == "")
        answers = answers.with_columns(
            answer=pl.when(~says_nothing.fill_null(value=False)).then("answer"),
            reason=pl.when(says_nothing).then(pl.lit(_CALLS_ALONE)).otherwise("reason"),
        )
    return answers.select(*answers_schema(), *(name for name in beside if name not in left_out))


def with_beside(messages: pl.Series, answers: pl.DataFrame, rule: BoundRule) -> pl.Series:
    """Put the fields beside an answer's text into the last message of each conversation.

    Args:
        messages: `frames.MESSAGES` [examples]. answers: what `answer_columns` returns, in the same order.
    Raises: PluginError where a strategy ends a conversation on anything but such an answer.
    """
    import polars as pl

    beside = [name for name in BESIDE_ANSWER if name in answers.columns]
    held = answers.select(pl.any_horizontal([pl.lit(value=False), *(pl.col(name).is_not_null() for name in beside)]))
    has = held.to_series()
    if not has.any():
        return messages
    messages = completed_messages(messages)
    last = messages.list.last().struct
    ends = (last.field("role") == "assistant") & (last.field("content") == answers["answer"])
    if not (ends.fill_null(value=False) | ~has).all():
        raise PluginError(
            f"strategies.{rule.strategy_name}: kind {quoted(rule.strategy.kind)} ends a conversation on something else "
            "than the answer, which holds thoughts or calls of tools; tell its author, or leave them out: "
            'leave_out = ["reasoning", "tool_calls"] of the teacher'
        )
    fields = [
        pl.coalesce(pl.lit(answers[name]), pl.lit(field)).alias(name) if name in beside else pl.lit(field).alias(name)
        for name, field in ((one.name, last.field(one.name)) for one in messages.dtype.inner.fields)  # type: ignore[attr-defined]
    ]
    frame = pl.DataFrame({"messages": messages, "has": has})
    whole = pl.concat_list(pl.col("messages").list.head(pl.col("messages").list.len() - 1), pl.struct(fields))
    chosen = frame.with_columns(whole=pl.when("has").then(whole))
    return completed_messages(chosen.select(messages=pl.coalesce("whole", "messages"))["messages"])
