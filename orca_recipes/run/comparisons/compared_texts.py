"""Texts that comparisons see of a conversation or an example: its question and its answer.

What the row's users say is the question, whatever a strategy adds to it (words, shots), and trained turns the answer. A
system message that the row brings belongs to its question, unless all rows of its collection bring the same one: that
says nothing of any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca_recipes.contract.messages import last_answer
from orca_recipes.run.examples.row_texts import brought_systems, users_words
from orca_recipes.store.made_conversations import ASKED

if TYPE_CHECKING:
    import polars as pl

CONVERSATION = ["messages"]
"""The columns of a conversation that are looked at, beside ASKED."""
EXAMPLE = ["question", "references", "system", "answer", "messages"]
"""The columns of an example that are looked at."""


def compared_texts(frame: pl.DataFrame, *, shared: str | None, whole: bool = False) -> pl.DataFrame:
    """Compute question and answer of each row, String, never null.

    Args:
        frame: columns of CONVERSATION and ASKED, or of EXAMPLE. shared: the system message of the whole collection.
        whole: whether a conversation's question is all that users say in it.
    """
    import polars as pl

    told = _told(frame["messages"])
    if ASKED[0] in frame.columns and not whole:
        told = told.with_columns(question=frame[ASKED[0]])
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
    return frame[ASKED[1]] if ASKED[1] in frame.columns else brought_systems(frame)


def _told(messages: pl.Series) -> pl.DataFrame:
    """Join the users' turns and the trained turns, each to one text; null without messages."""
    import polars as pl

    said, element = pl.element().struct, pl.col("messages")
    trained = said.field("trained").fill_null(value=False) & (said.field("role") == "assistant")
    answered = element.list.eval(said.field("content").filter(trained)).list.join("\n")
    frame = pl.DataFrame({"messages": messages}).select(users_words(messages).alias("question"), answer=answered)
    return frame.with_columns(answer=pl.when(pl.col("answer") != "").then("answer"))


def _answers(examples: pl.DataFrame) -> pl.Series:
    """Join the answers of examples and their references to one text; of examples without either, take the last answer
    of their conversation."""
    import polars as pl

    last = last_answer(examples["messages"]).alias("last")
    found = examples.select(pl.concat_list("answer", "references").list.drop_nulls().list.join("\n").alias("answers"))
    return found.select(pl.coalesce(pl.when(pl.col("answers") != "").then("answers"), last))["answers"]
