"""What filters say of conversations: which are rejected, and which of their answers stay untrained, as context.

Filters see the answers as the dataset trains them. What one leaves untrained is context to those behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.frames import UNTRAINED
from orca_recipes.contract.kinds import Filter
from orca_recipes.contract.messages import flat_messages, lists_of
from orca_recipes.counted import counted
from orca_recipes.run.conversations.course import Course
from orca_recipes.run.conversations.rejections import only, rejections
from orca_recipes.run.segments.less_training import less_trained
from orca_recipes.run.work.blame import of_kind, unsound

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Judged:
    """Conversations after all filters.

    conversations: all of them, with fewer answers trained. rows: int64, rising, those that are kept. rejected: lines of
    the others. untrained: of the kept, stage and reason to the number of answers that filters left untrained.
    """

    conversations: pl.DataFrame
    rows: np.ndarray
    rejected: list[pl.DataFrame]
    untrained: dict[str, int]


def judged(conversations: pl.DataFrame, course: Course) -> Judged:
    """Ask all filters in order; each sees only the rows kept by those before it.

    Raises: PluginError where a filter gives reasons that fit no messages.
    """
    rows, rejected = np.arange(conversations.height), []
    found: dict[int, list[_Left]] = {}
    seen = _as_trained(conversations, course)
    for place, kind in enumerate(course.filters):
        stage = f"filter {kind.kind}"
        with of_kind(kind):
            reasons = _sound(kind, kind.reasons(conversations=seen), seen.height)
        rejected.append(rejections(seen, reasons, stage))
        rows = rows[reasons.is_null().to_numpy()]
        if place == len(course.filters) - 1 and type(kind).turn_reasons is Filter.turn_reasons:
            break  # nobody looks at the rows that are kept, and to gather them copies their texts
        seen = only(seen, reasons.is_null())
        left = _left_by(kind, seen)
        if not left:
            continue
        seen = seen.with_columns(messages=_without(seen["messages"], left))
        emptied = _emptied(seen, left)
        rejected.append(rejections(seen, emptied, stage))
        stays = emptied.is_null().to_numpy()
        for one in left:
            if stays[one.row]:
                found.setdefault(int(rows[one.row]), []).append(one)
        rows, seen = rows[stays], only(seen, emptied.is_null())
    kept = set(rows.tolist())
    found = {row: left for row, left in found.items() if row in kept}
    return Judged(_marked(conversations, found), rows, rejected, _counted(found.values()))


def passing(conversations: pl.DataFrame, course: Course) -> tuple[pl.DataFrame, list[pl.DataFrame], dict[str, int]]:
    """Keep the conversations that pass all filters; return them, the rejections, and `Judged.untrained`."""
    found = judged(conversations, course)
    made = found.conversations
    kept = made if len(found.rows) == made.height else made[found.rows]
    return kept, found.rejected, found.untrained


def _sound(kind: Filter, reasons: Any, rows: int) -> pl.Series:
    """Hold what a filter returns to the contract: a text or null for each conversation.

    Raises: PluginError for anything else.
    """
    import polars as pl

    if isinstance(reasons, pl.Series) and len(reasons) == rows and reasons.dtype in (pl.String, pl.Null):
        return reasons
    told = f"a {type(reasons).__name__}"
    if isinstance(reasons, pl.Series):
        told = f"one of {counted(len(reasons), 'value')} of type {reasons.dtype}"
    raise unsound(kind, f"must return a pl.Series of {rows:,} texts or nulls (reasons), and returns {told}")


@dataclass(frozen=True)
class _Left:
    """A trained answer that a filter leaves untrained: row of the frame, place of the message, and which of the
    assistant's messages it is, from 1."""

    row: int
    place: int
    turn: int
    stage: str
    reason: str


def _as_trained(conversations: pl.DataFrame, course: Course) -> pl.DataFrame:
    """Untrain the turns that the dataset leaves untrained, as filters are to see them."""
    import polars as pl

    if not course.filters or course.train_on is None or not course.train_on.chooses_turns:
        return conversations
    less = less_trained(conversations["messages"], course.train_on)
    of_rule = pl.col("train_on").is_not_null()
    return conversations.with_columns(messages=pl.when(of_rule).then("messages").otherwise(pl.lit(less)))


def _left_by(kind: Filter, seen: pl.DataFrame) -> list[_Left]:
    """List the trained answers that a filter leaves untrained, in order."""
    import polars as pl

    with of_kind(kind):
        reasons = kind.turn_reasons(conversations=seen)
    if reasons is None or (isinstance(reasons, pl.Series) and reasons.null_count() == len(reasons) == seen.height):
        return []
    is_sound = isinstance(reasons, pl.Series) and len(reasons) == seen.height and reasons.dtype == pl.List(pl.String)
    told = reasons.list.len() if is_sound else None
    if told is None or not (told.is_null() | (told == seen["messages"].list.len())).all():
        raise unsound(
            kind, "must give a reason or null for each message of a conversation (turn_reasons), and does not"
        )
    flat = flat_messages(seen["messages"].set(reasons.is_null(), None))
    place, is_answer = pl.int_range(pl.len()).over("row"), pl.col("role") == "assistant"
    left = flat.select(
        "row",
        place.alias("place"),
        is_answer.cum_sum().over("row").alias("turn"),
        reasons.filter(told > 0).explode().alias("reason"),
        trained=is_answer & pl.col("trained").fill_null(value=False),
    ).filter(pl.col("trained") & pl.col("reason").is_not_null())
    lines = left.select("row", "place", "turn", "reason").iter_rows()
    return [_Left(row, place, turn, f"filter {kind.kind}", reason) for row, place, turn, reason in lines]


def _without(messages: pl.Series, left: Iterable[_Left]) -> pl.Series:
    """Untrain some messages of conversations."""
    import polars as pl

    lengths = messages.list.len().fill_null(0).to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    flat = flat_messages(messages).drop("row")
    is_left = np.zeros(flat.height, dtype=np.bool_)
    is_left[[int(starts[one.row]) + one.place for one in left]] = True
    trained = pl.when(pl.Series(is_left)).then(pl.lit(value=False)).otherwise("trained").alias("trained")
    return lists_of(flat.with_columns(trained).to_struct("messages"), lengths)


def _emptied(seen: pl.DataFrame, left: Iterable[_Left]) -> pl.Series:
    """Return the reasons to reject conversations of which no answer is trained any more."""
    import polars as pl

    message = pl.element().struct
    trained = message.field("trained").fill_null(value=False) & (message.field("role") == "assistant")
    some = seen["messages"].list.eval(trained).list.any().fill_null(value=False).to_numpy()
    reasons: list[str | None] = [None] * seen.height
    for one in left:
        if not some[one.row]:
            reasons[one.row] = f"no answer stays trained: {one.reason}"
    return pl.Series("reason", reasons, dtype=pl.String)


def _marked(conversations: pl.DataFrame, found: dict[int, list[_Left]]) -> pl.DataFrame:
    """Untrain what filters left untrained, and tell it beside the messages. found: by row of the frame."""
    import polars as pl

    if not found:
        return conversations
    left = [_Left(row, one.place, one.turn, one.stage, one.reason) for row, those in found.items() for one in those]
    told: list[str | None] = [None] * conversations.height
    for row, those in found.items():
        told[row] = _told(sorted(those, key=lambda one: one.place))
    column = pl.Series(UNTRAINED, told, dtype=pl.String)
    return conversations.with_columns(column, messages=_without(conversations["messages"], left))


def _told(left: Iterable[_Left]) -> str:
    lines: list[dict[str, Any]] = [{"turn": one.turn, "stage": one.stage, "reason": one.reason} for one in left]
    return json.dumps(lines, ensure_ascii=False, separators=(",", ":"))


def _counted(found: Iterable[Iterable[_Left]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for those in found:
        for one in those:
            name = f"{one.stage}: {one.reason}"
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
