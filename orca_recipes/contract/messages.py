"""Conversations made from columns, and taken apart into columns.

polars makes a list of structs row by row; here all messages are gathered as one flat column and cut at offsets, which
is ten times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.frames import BESIDE_CONTENT, completed_messages, messages_type, repeated

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Turn:
    """One message of each conversation; there is none where its content is null.

    content: String [conversations].
    """

    role: str
    content: pl.Series
    trained: bool = False


def conversations_of(turns: Sequence[Turn]) -> pl.Series:
    """Make one conversation per row from its turns, in order and without null ones.

    Returns: `frames.MESSAGES` [conversations].
    """
    import polars as pl

    codes = np.zeros(len(turns[0].content), dtype=np.int64)
    for place, turn in enumerate(turns):
        codes |= turn.content.is_not_null().to_numpy().astype(np.int64) << place
    made, places = [], []
    for code in np.unique(codes).tolist():
        rows = np.flatnonzero(codes == code).astype(np.uint32)
        shape = [turn for place, turn in enumerate(turns) if code >> place & 1]
        if len(rows) == len(codes):
            return _of_one_shape(shape, len(rows))
        mine = [Turn(turn.role, turn.content.gather(pl.Series(rows)), turn.trained) for turn in shape]
        made.append(_of_one_shape(mine, len(rows)))
        places.append(rows)
    if not made:
        return _of_one_shape([], 0)
    return pl.concat(made).gather(pl.Series(np.argsort(np.concatenate(places)).astype(np.uint32)))


def _of_one_shape(turns: Sequence[Turn], count: int) -> pl.Series:
    """Return conversations of these turns, none of them null."""
    import polars as pl

    width = len(turns)
    if not count or not width:
        return pl.Series("messages", [[]] * count, dtype=messages_type())
    contents = pl.concat([turn.content.alias("content") for turn in turns])
    order = np.arange(count * width, dtype=np.uint32).reshape(width, count).T.ravel()
    which = np.tile(np.arange(width, dtype=np.uint32), count)
    flat = pl.DataFrame(
        {
            "role": pl.Series([turn.role for turn in turns]).gather(which),
            "content": contents.gather(pl.Series(order)),
            "trained": pl.Series([turn.trained for turn in turns]).gather(which),
        }
    )
    return completed_messages(flat.to_struct("messages").reshape((count, width)).cast(_plain_messages_type()))


def _plain_messages_type() -> Any:
    """Return the type of MESSAGES that have nothing beside content, as a list: `reshape` makes an array."""
    import polars as pl

    return pl.List(pl.Struct({"role": pl.String, "content": pl.String, "trained": pl.Boolean}))


def lists_of(flat: pl.Series, lengths: np.ndarray) -> pl.Series:
    """Return messages one after the other, cut into conversations.

    Args:
        flat: structs [messages] as in `frames.MESSAGES`. lengths: integers [conversations].
    """
    import polars as pl
    import pyarrow as pa

    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), type=pa.int64())
    lists = pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(offsets, flat.rechunk().to_arrow())))
    return completed_messages(lists.alias("messages"))


def flat_messages(messages: pl.Series) -> pl.DataFrame:
    """Flatten conversations into their messages, one after the other.

    Returns: row (the conversation's position) and the fields of `frames.MESSAGES`; conversations that are null or
        empty have none.
    """
    import polars as pl

    lengths = messages.list.len()
    rows = np.repeat(np.arange(len(messages), dtype=np.uint32), lengths.fill_null(0).to_numpy())
    # Rarely is one empty, and to filter copies all.
    held = messages if _has_no_empty(lengths) else messages.filter(lengths > 0)
    return held.explode().struct.unnest().insert_column(0, pl.Series("row", rows))


def _has_no_empty(lengths: pl.Series) -> bool:
    """Tell whether each of some conversations has a message. lengths: of theirs, null for null ones."""
    return bool(lengths.min()) and not lengths.null_count()


def heading(system: pl.Series) -> pl.Series:
    """Return system messages as turns: an empty one is none."""
    import polars as pl

    return pl.select(pl.when(system.str.len_bytes() > 0).then(system).alias("system")).to_series()


def ends_with_answer(messages: pl.Series) -> pl.Series:
    """Tell for each conversation whether its last message is an assistant's; false for a null or empty one.

    Only that message tells whether a conversation is answered: one that ends on any other is history, and its answer
    stands elsewhere.
    """
    import polars as pl

    if messages.null_count() == len(messages):
        return repeated(False, pl.Boolean, len(messages)).alias("ends_with_answer")
    lengths = messages.list.len()
    if not _has_no_empty(lengths):
        last = messages.list.last().struct.field("role")
        return (last == "assistant").fill_null(value=False).alias("ends_with_answer")
    # No conversation is empty: the roles alone are looked at, in a third of the time.
    answers = messages.explode().struct.field("role") == "assistant"
    flags = (answers.fill_null(value=False) if answers.null_count() else answers).to_numpy()
    return pl.Series("ends_with_answer", flags[np.cumsum(lengths.to_numpy(), dtype=np.int64) - 1])


def without_last_answer(messages: pl.Series) -> pl.Series:
    """Return conversations up to the answer that ends them; those that end on another message stay as they are."""
    import polars as pl

    answered = ends_with_answer(messages)
    if not answered.any():
        return messages
    column = pl.col("messages")
    length = column.list.len() - pl.lit(answered).cast(pl.UInt32)
    return messages.alias("messages").to_frame().select(column.list.head(length))["messages"]


def last_answer(messages: pl.Series) -> pl.Series:
    """Return the content of each conversation's last assistant message, at any place; null where there is none."""
    import polars as pl

    if messages.null_count() == len(messages):
        return repeated(None, pl.String, len(messages)).alias("content")
    last = messages.list.last().struct
    if bool((last.field("role") == "assistant").fill_null(value=True).all()):
        return last.field("content")  # nearly all end with an answer: a quick look
    message = pl.element().struct
    return messages.list.eval(message.field("content").filter(message.field("role") == "assistant")).list.last()


def last_question(messages: pl.Series) -> pl.Series:
    """Return the content of each conversation's last user message, at any place; null where there is none."""
    import polars as pl

    if messages.null_count() == len(messages):
        return repeated(None, pl.String, len(messages)).alias("content")
    message = pl.element().struct
    return messages.list.eval(message.field("content").filter(message.field("role") == "user")).list.last()


def untrained(messages: pl.Series) -> pl.Series:
    """Mark every message of the conversations as untrained."""
    import polars as pl

    message = pl.element().struct
    said = [message.field(name) for name in ("role", "content")]
    beside = [message.field(name) for name in BESIDE_CONTENT]
    plain = pl.struct(*said, pl.lit(value=False).alias("trained"), *beside)
    return completed_messages(messages).list.eval(plain)
