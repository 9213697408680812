"""Rows that were read and cannot be examples, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_recipes.contract.frames import repeated
from orca_recipes.contract.messages import flat_messages

if TYPE_CHECKING:
    import polars as pl

_NO_ANSWER, _NO_REFERENCE, _NO_TURN = (
    "answer: it is empty",
    "reference: it is empty",
    "messages: an answer to be trained is empty",
)
_LATER_SYSTEM = (
    "messages: a system message stands after the first message; "
    'second_system = "merge" makes one of all, "keep" leaves it there'
)
_SYSTEMS_OF_NAMES = (
    "messages: its system messages differ in their name, and a merged one has one; "
    'second_system = "keep" leaves each where it stands'
)
_TWO_QUESTIONS = "question: the row has one that its messages do not ask; name one of the two in columns"
SOUND = (_NO_ANSWER, _NO_REFERENCE, _NO_TURN, _TWO_QUESTIONS)
"""Why rows are lost that are sound: they ask and are not answered (published FLAN has two such rows in a hundred), or
ask twice. They stop a build only where any row would."""

_VISIBLE = r"[^\s\x1c-\x1f]"
"""What a text holds that is not blank: `str.strip()`, which a template's `trim` is, takes the separators away too."""


def without_questions_asked(rows: pl.DataFrame) -> pl.DataFrame:
    """Drop the questions that rows' own messages ask, and blank ones beside messages."""
    import polars as pl

    both = rows["question"].is_not_null() & rows["messages"].is_not_null()
    if not both.any():
        return rows
    message = pl.element().struct
    asked = pl.col("messages").list.eval(message.field("content").filter(message.field("role") == "user"))
    told = rows.select(asked.list.contains(pl.col("question")))["messages"] | _is_blank(rows["question"])
    return rows.with_columns(question=pl.when(pl.lit(both & told)).then(None).otherwise("question"))


def unfitness(rows: pl.DataFrame, *, later_systems: Literal["reject", "merge", "keep"] = "reject") -> pl.Series:
    """Tell of each row that was read why it cannot be an example; null where it can.

    Args:
        later_systems: what becomes of system messages behind the first message; those to merge are merged already,
            where they can be.
    """
    import polars as pl

    brought = rows["messages"].is_not_null()
    reasons = {
        "question: there is none": rows["question"].is_null() & ~brought,
        "question: it is empty": _is_blank(rows["question"]) & ~brought,
        **(_unfit_messages(rows, later_systems) if brought.any() else {}),
        _NO_ANSWER: _is_blank(rows["answer"]),
        _NO_REFERENCE: _any_is_blank(rows["references"]),
    }
    flags = {reason: flag.fill_null(value=False) if flag.null_count() else flag for reason, flag in reasons.items()}
    frame = pl.DataFrame([flag.alias(reason) for reason, flag in flags.items() if flag.any()])
    if not frame.width:
        return pl.Series("reason", [None], dtype=pl.String).new_from_index(0, rows.height)
    return frame.select(reason=pl.coalesce(pl.when(pl.col(reason)).then(pl.lit(reason)) for reason in frame.columns))[
        "reason"
    ]


def _unfit_messages(rows: pl.DataFrame, later_systems: Literal["reject", "merge", "keep"]) -> dict[str, pl.Series]:
    """Flag the rows whose messages make them unfit: reason to Boolean [rows]."""
    import polars as pl

    flat = flat_messages(rows["messages"])
    row, roles = flat["row"].to_numpy(), flat["role"].fill_null("")
    user, assistant, system = ((roles == role).to_numpy() for role in ("user", "assistant", "system"))
    trained = flat["trained"].fill_null(value=False).to_numpy()
    blank = _is_blank(flat["content"]).fill_null(value=False).to_numpy()
    first = np.append(True, row[1:] != row[:-1])[: len(row)]

    def having(messages: np.ndarray) -> pl.Series:
        flags = np.zeros(rows.height, dtype=np.bool_)
        flags[row[messages]] = True
        return pl.Series(flags)

    return {
        "messages: there are none": rows["messages"].list.len() == 0,
        _SYSTEMS_OF_NAMES if later_systems == "merge" else _LATER_SYSTEM: having(
            system & ~first & (later_systems != "keep")
        ),
        "question: no message is a user's": ~having(user) & rows["messages"].is_not_null(),
        "messages: a user's message is empty": having(user & blank),
        "messages: a turn that is not the assistant's is marked as trained": having(trained & ~assistant),
        _NO_TURN: having(trained & blank & flat["tool_calls"].is_null().to_numpy()),
        "system: the row has one, and its messages begin with another": _two_systems(rows, flat, system & first),
        _TWO_QUESTIONS: rows["question"].is_not_null() & rows["messages"].is_not_null(),
    }


def _two_systems(rows: pl.DataFrame, flat: pl.DataFrame, heads: np.ndarray) -> pl.Series:
    """Flag the rows with a system message of their own and a different one at the head of their messages."""
    import polars as pl

    twice = np.zeros(rows.height, dtype=np.bool_)
    if rows["system"].null_count() < rows.height:
        headed = flat.filter(pl.Series(heads)).filter(pl.col("content") != "")
        theirs = rows["system"].gather(headed["row"])
        twice[headed["row"].filter((theirs != headed["content"]) & (theirs != "")).to_numpy()] = True
    return pl.Series(twice)


def _is_blank(texts: pl.Series) -> pl.Series:
    """Flag the texts of white space alone; null for null."""
    import polars as pl

    if texts.null_count() == len(texts):
        return repeated(None, pl.Boolean, len(texts))
    # Nearly every text begins with a visible ASCII character, which comparing tells in a tenth of the pattern's time.
    blank = ~((texts >= "!") & (texts < "\x7f"))
    unsure = blank.arg_true()
    return blank.scatter(unsure, ~texts.gather(unsure).str.contains(_VISIBLE)) if len(unsure) else blank


def _any_is_blank(lists: pl.Series) -> pl.Series:
    """Flag the lists that hold a blank text."""
    import polars as pl

    flags = np.zeros(len(lists), dtype=np.bool_)
    if lists.null_count() < len(lists):
        row = np.repeat(np.arange(len(lists)), lists.list.len().fill_null(0).to_numpy())
        blank = _is_blank(lists.filter(lists.list.len() > 0).explode()).fill_null(value=False)
        flags[row[blank.to_numpy()]] = True
    return pl.Series(flags)
