"""Texts that comparisons see of a conversation or an example: its question and its answer.

Users' turns are the question and trained turns the answer. A system message that the row brings belongs to its
question, unless all rows of its collection bring the same one: that says nothing of any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca_recipes.contract.messages import last_answer

if TYPE_CHECKING:
    import polars as pl

CONVERSATION = ["system_message", "messages"]
"""The columns of a conversation that are looked at."""
EXAMPLE = ["question", "references", "system", "answer", "messages"]
"""The columns of an example that are looked at."""


def compared_texts(frame: pl.DataFrame, *, shared: str | None) -> pl.DataFrame:
    """Return question and answer of each row, String, never null.

    Args:
        frame: columns of CONVERSATION, or of EXAMPLE. shared: the system message of the whole collection.
    """
    import polars as pl

    told = _told(frame["messages"])
    if "question" in frame.columns:
        told = told.with_columns(frame["question"].alias("own"), _answers(frame).alias("told"))
        told = told.with_columns(question=pl.coalesce("question", "own"), answer=pl.coalesce("answer", "told"))
    told = told.with_columns(head=own_systems(frame).fill_null(""))
    is_left_out = pl.col("head").is_in(["", shared or ""])
    head = pl.when(is_left_out).then(pl.lit("")).otherwise(pl.concat_str("head", pl.lit("\n")))
    question = pl.concat_str(head, pl.col("question").fill_null(""))
    return told.select(question=question, answer=pl.col("answer").fill_null(""))


def own_systems(frame: pl.DataFrame) -> pl.Series:
    """Take the system messages that rows bring; null if the recipe drew it, or there is none."""
    import polars as pl

    first = pl.col("messages").list.first().struct
    head = pl.when(first.field("role") == "system").then(first.field("content"))
    if "question" in frame.columns:
        return frame.select(head=pl.coalesce("system", head))["head"]
    return frame.select(head=pl.when(pl.col("system_message") == "").then(head))["head"]


def _told(messages: pl.Series) -> pl.DataFrame:
    """Join the users' turns and the trained turns, each to one text; null without messages."""
    import polars as pl

    said, element = pl.element().struct, pl.col("messages")
    asked = element.list.eval(said.field("content").filter(said.field("role") == "user")).list.join("\n")
    trained = said.field("trained").fill_null(value=False) & (said.field("role") == "assistant")
    answered = element.list.eval(said.field("content").filter(trained)).list.join("\n")
    frame = pl.DataFrame({"messages": messages}).select(question=asked, answer=answered)
    return frame.with_columns(answer=pl.when(pl.col("answer") != "").then("answer"))


def _answers(examples: pl.DataFrame) -> pl.Series:
    """Join the answers of examples and their references to one text; of examples without either, take the last answer
    of their conversation."""
    import polars as pl

    last = last_answer(examples["messages"]).alias("last")
    found = examples.select(pl.concat_list("answer", "references").list.drop_nulls().list.join("\n").alias("answers"))
    return found.select(pl.coalesce(pl.when(pl.col("answers") != "").then("answers"), last))["answers"]
