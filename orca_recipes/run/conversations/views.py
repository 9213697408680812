"""Store the teacher's view of an exchange as references to the student's messages.

A view is a JSON list of messages, each a role and pieces. A piece is a text, or the number of a message of the student
(from 0; -1 is its system message). A million records asked with the same words hold the same few bytes, and no question
is written twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.frames import repeated
from orca_recipes.contract.messages import flat_messages
from orca_recipes.run.conversations.combinations import combinations
from orca_recipes.run.segments.ragged import ragged

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class TeacherView:
    """The teacher's prompts, as references to the student's messages.

    told: String [examples], JSON as the module says. instruction: String [examples], what of it is no message of the
    student's, null where there is no such text. Both are null where nothing was asked.
    """

    told: pl.Series
    instruction: pl.Series


STUDENT_SYSTEM = -1
"""The number of the student's system message."""


def teacher_view(requests: pl.Series, taught: pl.Series, student_system: pl.Series) -> TeacherView:
    """Encode the teacher's prompt as references to the student's messages (see TeacherView).

    Args:
        requests: `frames.MESSAGES` [examples], null where nothing was asked.
        taught: `frames.MESSAGES` [examples], the student's once the prompt is erased.
        student_system: String [examples], the system message that the recipe gives the student, null for none; taken
            from the recipe and not from what is taught, so that what a strategy leaves there by mistake is told.
    """
    import polars as pl

    if requests.null_count() == len(requests):
        nothing = repeated(None, pl.String, len(requests))
        return TeacherView(nothing, nothing)
    asked = _beside(flat_messages(requests), flat_messages(taught), student_system)
    lengths = requests.list.len().fill_null(0).to_numpy().astype(np.int64)
    groups, firsts = _alike(asked, lengths)
    starts = np.cumsum(lengths) - lengths
    told, own = _spelt_out(asked[ragged(starts[firsts], lengths[firsts])], lengths[firsts])
    places = pl.Series(groups.astype(np.uint32))
    nobody = requests.is_null()
    view = pl.DataFrame({"told": told.gather(places), "own": own.gather(places), "nobody": nobody})
    view = view.with_columns(
        pl.when("nobody").then(None).otherwise(pl.col(name)).alias(name) for name in ("told", "own")
    )
    return TeacherView(view["told"], view["own"])


def erased_texts(told: str) -> tuple[str, ...]:
    """Extract the texts of a teacher's view that are not the student's."""
    return tuple(piece for _, *pieces in json.loads(told) for piece in pieces if isinstance(piece, str))


def asked_messages(told: str, student: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Restore the messages of a teacher's prompt, role and content, from the student's.

    Raises: IndexError where the student has no such message.
    """
    system = "".join(message["content"] for message in student if message["role"] == "system")
    spoken = [message["content"] for message in student if message["role"] != "system"]
    return [(role, "".join(_filled(piece, system, spoken) for piece in pieces)) for role, *pieces in json.loads(told)]


def _filled(piece: str | int, system: str, spoken: Sequence[str]) -> str:
    if isinstance(piece, str):
        return piece
    return system if piece == STUDENT_SYSTEM else spoken[piece]


def without_system(messages: pl.Series) -> pl.Series:
    """Return conversations without their system messages."""
    import polars as pl

    if messages.null_count() == len(messages):
        return messages
    return messages.list.eval(pl.element().filter(pl.element().struct.field("role") != "system"))


def _alike(asked: pl.DataFrame, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group equal exchanges: `combinations` of exchanges by their messages, place by place."""
    around = [_around(asked["before"]), _around(asked["after"])]
    # + 1, because the number of a system message is -1 and codes must not be negative.
    messages, _ = combinations([asked["role"], *around, asked["own"], asked["number"].to_numpy() + 1], asked.height)
    starts, columns = np.cumsum(lengths) - lengths, []
    for place in range(int(lengths.max(initial=0))):
        at = np.zeros(len(lengths), dtype=np.int64)
        there = lengths > place
        # + 1: 0 is for exchanges without a message at this place.
        at[there] = messages[starts[there] + place] + 1
        columns.append(at)
    return combinations(columns, len(lengths))


def _around(texts: pl.Series) -> pl.Series:
    """Return the texts on one side of the student's messages; if all are empty, only whether there is a message."""
    return texts if (texts.str.len_bytes() > 0).any() else texts.is_not_null()


def _spelt_out(asked: pl.DataFrame, lengths: np.ndarray) -> tuple[pl.Series, pl.Series]:
    """Return exchanges as JSON, and the texts in them that are not the student's, a line each; null where there are
    none."""
    import polars as pl

    told = _joined(asked.select(told=_told(asked))["told"], lengths, ",")
    rows = np.repeat(np.arange(len(lengths)), lengths)
    is_own = asked["own"].is_not_null()
    counts = np.bincount(rows[is_own.to_numpy()], minlength=len(lengths))
    own = _joined(asked["own"].filter(is_own), counts, "\n")
    frame = pl.DataFrame({"told": told, "own": own, "any": counts > 0})
    frame = frame.select(told=pl.format("[{}]", "told"), own=pl.when("any").then("own"))
    return frame["told"], frame["own"]


def _beside(asked: pl.DataFrame, taught: pl.DataFrame, student_system: pl.Series) -> pl.DataFrame:
    """Join each message asked with the student's at the same place (system messages apart).

    Returns: row, role, number (of the student's message), before and after (what stands around that message, null
        where it is no part), own (the text that is not the student's, null where there is none).
    """
    import polars as pl

    speaks = asked["role"] != "system"
    numbers = np.full(asked.height, STUDENT_SYSTEM, dtype=np.int64)
    numbers[speaks.to_numpy()] = _numbers(asked["row"].filter(speaks).to_numpy())
    spoken = taught.filter(pl.col("role") != "system")
    rows = asked["row"].to_numpy()
    counts = np.bincount(spoken["row"].to_numpy(), minlength=len(student_system))
    first = (np.cumsum(counts) - counts)[rows]
    there = speaks.to_numpy() & (numbers < counts[rows])
    nothing = spoken.height + len(student_system)
    place = np.where(speaks.to_numpy(), np.where(there, first + numbers, nothing), spoken.height + rows)
    # In one piece: to gather from several costs three times as much.
    parts = [spoken["content"], student_system.alias("content"), pl.Series([None], dtype=pl.String)]
    contents = pl.concat(parts, rechunk=True)
    known = contents.gather(pl.Series(place.astype(np.uint32))).alias("known")
    frame = asked.select("row", "role", "content").with_columns(known, pl.Series("number", numbers))
    return _cut(frame).drop("content", "known")


def _cut(frame: pl.DataFrame) -> pl.DataFrame:
    """Cut each message around the student's; nearly all are that message itself, or hold nothing of it."""
    import polars as pl

    same = (frame["content"] == frame["known"]).fill_null(value=False)
    empty = pl.when(same).then(pl.lit("")).otherwise(pl.lit(None, dtype=pl.String))
    cut = frame.with_columns(before=empty, after=empty)
    partly = ~same & frame["known"].is_not_null()
    if partly.any():
        pieces = pl.col("content").str.split(pl.col("known"))
        holds = pl.lit(partly) & (pl.col("known") != "") & pl.col("content").str.contains(pl.col("known"), literal=True)
        after = pieces.list.slice(1).list.join(pl.col("known"))
        cut = cut.with_columns(
            before=pl.when(holds).then(pieces.list.first()).otherwise("before"),
            after=pl.when(holds).then(after).otherwise("after"),
        )
    own: pl.Expr = pl.when(pl.col("before").is_null() & (pl.col("content") != "")).then("content")
    if partly.any():
        around = pl.concat_str("before", pl.lit("\n"), "after").str.strip_chars()
        own = pl.when(pl.lit(partly) & pl.col("before").is_not_null() & (around != "")).then(around).otherwise(own)
    return cut.with_columns(own=own)


def _told(asked: pl.DataFrame) -> pl.Expr:
    """Encode each message as JSON."""
    import polars as pl

    own = pl.when(pl.col("before").is_null()).then(pl.col("own").fill_null(""))
    head, tail = (pl.when(pl.col(name) != "").then(pl.col(name)) for name in ("before", "after"))
    texts = asked.select(own=own, head=head, tail=tail)
    spelt = {name: _spelt(texts[name]) for name in texts.columns}
    number = pl.when(pl.col("before").is_not_null()).then(pl.col("number").cast(pl.String))
    pieces = [pl.lit(spelt["own"]), pl.lit(spelt["head"]), number, pl.lit(spelt["tail"])]
    body = pl.concat_str(pieces, separator=",", ignore_nulls=True)
    return pl.concat_str(pl.lit('["'), "role", pl.lit('",'), body, pl.lit("]"))


def _spelt(texts: pl.Series) -> pl.Series:
    """Return texts as JSON; each distinct one is spelt once."""
    import polars as pl

    distinct = texts.drop_nulls().unique()
    if distinct.is_empty():
        return texts
    spelt = pl.Series([json.dumps(text, ensure_ascii=False) for text in distinct], dtype=pl.String)
    return texts.replace_strict(distinct, spelt, default=None, return_dtype=pl.String)


def _numbers(rows: np.ndarray) -> np.ndarray:
    """Number the messages within their row. rows: rising."""
    if not len(rows):
        return np.empty(0, dtype=np.int64)
    first = np.maximum.accumulate(np.where(np.append(True, rows[1:] != rows[:-1]), np.arange(len(rows)), 0))
    return np.asarray(np.arange(len(rows)) - first)


def _joined(texts: pl.Series, lengths: np.ndarray, separator: str) -> pl.Series:
    """Return texts one after the other, so many for each row, joined."""
    import polars as pl
    import pyarrow as pa

    if (lengths == 1).all():
        return texts
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), type=pa.int64())
    lists: Any = pl.from_arrow(
        pa.LargeListArray.from_arrays(offsets, texts.rechunk().to_arrow().cast(pa.large_string()))
    )
    return pl.Series(lists).list.join(separator)
