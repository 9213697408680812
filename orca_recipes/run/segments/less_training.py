"""Turns that `train_on` leaves untrained: they stay in their conversations, as context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.messages import flat_messages, lists_of

if TYPE_CHECKING:
    import polars as pl

    from orca_recipes.recipe.train_on import TrainOn


def less_trained(messages: pl.Series, train_on: TrainOn) -> pl.Series:
    """Untrain the turns that `train_on` excludes; no turn is trained that was not.

    Args:
        messages: `frames.MESSAGES` [conversations].
    """
    if not train_on.chooses_turns:
        return messages
    flat = flat_messages(messages)
    rows = flat["row"].to_numpy()
    answers = (flat["role"] == "assistant").fill_null(value=False).to_numpy()
    trained = flat["trained"].fill_null(value=False).to_numpy() & answers
    if train_on.turns == "last":
        trained = _last_alone(trained, rows)
    if train_on.except_answers is not None:
        trained &= ~_found(flat["content"], train_on.except_answers)
    if train_on.except_replies is not None:
        trained &= ~_failed(flat, rows, train_on.except_replies)
    lengths = messages.list.len().fill_null(0).to_numpy()
    return lists_of(_with_marks(flat, answers, trained), lengths)


def _with_marks(flat: pl.DataFrame, answers: np.ndarray, trained: np.ndarray) -> pl.Series:
    import polars as pl

    marks = pl.when(pl.Series(answers)).then(pl.Series(trained)).otherwise("trained").alias("trained")
    return flat.drop("row").with_columns(marks).to_struct("messages")


def _last_alone(trained: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return bool [messages]: of each conversation the last trained one."""
    places = np.flatnonzero(trained)
    last = places[np.append(rows[places][1:] != rows[places][:-1], True)[: len(places)]]
    return np.isin(np.arange(len(trained)), last)


def _found(texts: pl.Series, pattern: str) -> np.ndarray:
    return np.asarray(texts.str.contains(pattern).fill_null(value=False).to_numpy())


def _failed(flat: pl.DataFrame, rows: np.ndarray, pattern: str) -> np.ndarray:
    """Return bool [messages]: calls whose next message is a tool's reply with the pattern in it."""
    replies = (flat["role"] == "tool").fill_null(value=False).to_numpy()
    # Of replies in a row all answer the last message that is no reply.
    callers = np.maximum.accumulate(np.where(replies, -1, np.arange(len(rows))))
    failed = np.flatnonzero(replies & _found(flat["content"], pattern))
    owners = callers[failed]
    owners = owners[(owners >= 0) & (rows[owners] == rows[failed])]
    return np.isin(np.arange(len(rows)), owners)
