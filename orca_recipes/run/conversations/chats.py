"""Multi-turn conversations of rows, under strategies that ask with a single question.

The last user's turn is the question; what stands before it, but for the system message, is history, and is put back
before the question in whatever the strategy makes of it. So a strategy reaches conversations and knows nothing of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.frames import BESIDE_CONTENT, repeated
from orca_recipes.contract.messages import ends_with_answer, flat_messages, last_answer, without_last_answer

if TYPE_CHECKING:
    import polars as pl

    from orca_recipes.run.conversations.matching_rule import BoundRule


_NO_ANSWER = "nobody answers the last question of its conversation"


def is_chat(examples: pl.DataFrame, rule: BoundRule) -> pl.Series:
    """Mark the examples with a conversation whose last user's turn is asked as a question: Boolean [examples].

    Not those of a strategy that asks conversations itself, those whose answer answers another message than a user's,
    and those that keep an answer which is more than text.

    Args:
        examples: columns of `frames.EXAMPLES`.
    """
    import polars as pl

    messages = examples["messages"]
    if rule.strategy.asks_conversations or messages.null_count() == examples.height:
        return repeated(False, pl.Boolean, examples.height)
    brought = messages.is_not_null() & examples["question"].is_null()
    if not brought.any():
        return brought
    last = without_last_answer(messages).list.last().struct
    found = brought & (last.field("role") == "user").fill_null(value=False)
    for name in BESIDE_CONTENT if _keeps_answers(rule) else ():
        found &= ~(ends_with_answer(messages) & messages.list.last().struct.field(name).is_not_null())
    return found


def brings_system(examples: pl.DataFrame) -> pl.Series:
    """Mark the examples with a conversation that begins with a system message: Boolean [examples]."""
    import polars as pl

    messages = examples["messages"]
    if messages.null_count() == examples.height:
        return repeated(False, pl.Boolean, examples.height)
    first = messages.list.first().struct
    return ((first.field("role") == "system") & (first.field("content") != "")).fill_null(value=False)


def asked_by_question(examples: pl.DataFrame, rule: BoundRule) -> tuple[pl.DataFrame, pl.Series]:
    """Turn chats into examples that ask by their last user's turn; return the examples and the chats' history.

    Returns: columns of `frames.EXAMPLES`, of a chat its last user's turn as the question, its system message, and the
        answer that it keeps, and no messages; and `frames.MESSAGES` [examples], null for all others.
    """
    import polars as pl

    chats, messages = is_chat(examples, rule), examples["messages"]
    nothing = messages.clear(examples.height)
    if not chats.any():
        return examples, nothing
    opened = without_last_answer(messages)
    first = (messages.list.first().struct.field("role") == "system").fill_null(value=False)
    head = pl.when(pl.lit(brings_system(examples) & (not rule.replace))).then(
        pl.lit(messages.list.first().struct.field("content"))
    )
    own = pl.when(pl.lit(ends_with_answer(messages) & _keeps_answers(rule))).then(pl.lit(last_answer(messages)))
    of_chats = {
        "question": pl.lit(opened.list.last().struct.field("content")),
        "system": pl.coalesce("system", head),
        "answer": pl.coalesce("answer", own),
        "messages": pl.lit(nothing),
    }
    start = first.cast(pl.Int64)
    size = opened.list.len().cast(pl.Int64) - 1 - start
    frame = pl.DataFrame({"opened": opened, "start": start, "size": size, "chats": chats})
    history = frame.select(history=pl.when("chats").then(pl.col("opened").list.slice(pl.col("start"), pl.col("size"))))[
        "history"
    ]
    is_one = pl.lit(chats)
    asked = examples.with_columns(
        pl.when(is_one).then(made).otherwise(name).alias(name) for name, made in of_chats.items()
    )
    return asked, history


def without_answer(examples: pl.DataFrame, answers: pl.Series, rule: BoundRule) -> pl.Series:
    """Give the reason for losing each chat that nobody answers; null for all other examples. Args: as for `taught`."""
    import polars as pl

    reason = repeated(None, pl.String, examples.height)
    lacks = is_chat(examples, rule) & answers.is_null()
    if not lacks.any():
        return reason
    asked, _ = asked_by_question(examples, rule)
    return pl.select(pl.when(lacks & asked["answer"].is_null()).then(pl.lit(_NO_ANSWER)).otherwise(reason)).to_series()


def with_history(told: pl.Series, history: pl.Series) -> pl.Series:
    """Return conversations with the history of chats before their last user's turn.

    Args:
        told: `frames.MESSAGES` [examples], null for none. history: the same, null where there is none.
    """
    import polars as pl

    if history.null_count() == len(history):
        return told
    flat = flat_messages(told)
    rows = flat["row"].to_numpy()
    first = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
    place = np.arange(len(rows)) - np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    last = np.zeros(len(told), dtype=np.int64)
    users = (flat["role"] == "user").fill_null(value=False).to_numpy()
    # `last[rows] = place` would not say which of a row's turns stays.
    np.maximum.at(last, rows[users], place[users])
    frame = pl.DataFrame({"told": told, "history": history, "at": last})
    before, after = pl.col("told").list.head("at"), pl.col("told").list.slice("at")
    whole = pl.when(pl.col("history").is_null()).then("told").otherwise(pl.concat_list(before, "history", after))
    return frame.select(messages=whole)["messages"]


def _keeps_answers(rule: BoundRule) -> bool:
    return rule.strategy.keeps_own_words and not rule.replace
