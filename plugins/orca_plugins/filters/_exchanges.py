"""Judge each answer that a conversation trains, behind the question that it answers, and not its last answer alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.messages import flat_messages

if TYPE_CHECKING:
    import polars as pl


def exchanges(conversations: pl.DataFrame) -> pl.DataFrame:
    """List question and answer of each conversation; of one that trains several answers, or brings its own turns, each
    trained answer with the user's turn before it.

    Args:
        conversations: columns of `frames.CONVERSATIONS`.
    Returns: row (UInt32, the conversation's position, rising), question, answer (String).
    """
    import polars as pl

    said = pl.element().struct
    is_trained = said.field("trained").fill_null(value=False) & (said.field("role") == "assistant")
    answers = conversations.select(pl.col("messages").list.eval(is_trained).list.sum().fill_null(0))["messages"]
    several = (answers > 1) | (conversations["question"].is_null() & (answers == 1))
    told = conversations.select("question", "answer").with_row_index("row")
    if not several.any():
        return told
    flat = flat_messages(conversations["messages"].set(~several, None))
    users = pl.when(pl.col("role") == "user").then("content").forward_fill().over("row")
    turns = flat.with_columns(users.alias("question")).filter((pl.col("role") == "assistant") & pl.col("trained"))
    turns = turns.select("row", "question", answer="content").cast({"row": pl.UInt32})
    return pl.concat([told.filter(~several), turns]).sort("row", maintain_order=True)


def reasons_of(found: pl.Series, rows: pl.Series, count: int, reason: str) -> pl.Series:
    """Give a reason to each of `count` conversations that has an answer which was found; null to all others.

    Args:
        found: Boolean [answers], null for no. rows: as `exchanges` returns them.
    """
    import polars as pl

    is_held = np.zeros(count, dtype=np.bool_)
    is_held[rows.filter(found.fill_null(value=False)).to_numpy()] = True
    return pl.select(pl.when(pl.Series(is_held)).then(pl.lit(reason))).to_series()
