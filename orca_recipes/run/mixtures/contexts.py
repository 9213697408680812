"""Verb `contexts`: the digest of all that stands before a row's answer, by which duplicates are found.

That is the system message, every turn up to the answer that closes a conversation, and those other columns that some
strategy of the recipe asks with: two rows are duplicates where the student or the teacher would see the same. Calls and
reasoning of those turns, and a row's tools and variables of the template, count where there are any. A row with a
question alone is the same as a conversation with that one turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.draws import canonical, splitmix64, text_digests
from orca_recipes.contract.frames import BESIDE_MESSAGES
from orca_recipes.contract.messages import ends_with_answer
from orca_recipes.plan.mixing import context_columns
from orca_recipes.run.examples.row_digests import Digests
from orca_recipes.run.mixtures.questions import DIALOGUE, RowsTask, finish, rows_tasks
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_frame, read_table, write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

OPTIONS = "options"
_COLUMNS, _HELD = b"columns", b"held"
_FIELDS = ("reasoning", "tool_calls", "tool_call_id")
"""What a message may hold beside its content that a template prints."""
WORDS = ("task", "category", "language", "reasoning")


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `contexts` of a collection."""
    columns = context_columns(bench.recipe)
    tasks = [ContextsTask(rows, columns) for rows in rows_tasks(bench.folder(f"read {subject}"), folder)]
    bench.map_parts(folder, f"contexts {subject}", contexts_part, tasks, [1] * len(tasks), "parts")
    finish(bench, folder, [task.name for task in tasks], "context")


@dataclass(frozen=True)
class ContextsTask:
    """Look at some batches; columns: those beside the conversation that count, None: all that a row has."""

    rows: RowsTask
    columns: tuple[str, ...] | None

    @property
    def name(self) -> str:
        return self.rows.name


def contexts_part(task: ContextsTask) -> int:
    """Store the digests of one part's contexts; return how many."""
    import polars as pl

    needed = ["system", "question", "messages"]
    if task.columns is None or task.columns:
        needed += [*WORDS, OPTIONS, "extra"]
    frames = [_digests(_read(path, needed), task.columns) for path in task.rows.batches]
    frame = pl.concat(frames)
    writer = PartWriter(task.rows.folder, task.name)
    write_frame(writer.path(".arrow"), frame)
    writer.keep([".arrow"], {"rows": frame.height})
    return frame.height


def _read(path: Path, needed: list[str]) -> pl.DataFrame:
    """Read the needed columns of a part, and rare columns if it has them."""
    there = read_table(path).column_names
    return read_frame(path, columns=[*needed, *(name for name in BESIDE_MESSAGES if name in there)])


def _digests(frame: pl.DataFrame, columns: tuple[str, ...] | None) -> pl.DataFrame:
    import polars as pl

    hi, lo = (np.zeros(frame.height, dtype=np.uint64) for _ in range(2))
    is_talk = frame["messages"].is_not_null()
    for rows, texts in ((~is_talk, _questions), (is_talk, _conversations)):
        if not rows.any():
            continue
        places = np.flatnonzero(rows.to_numpy())
        told = texts(frame if rows.all() else frame.filter(rows))
        alone = told["several"].is_null()
        for chosen, name, person in ((alone, "one", b""), (~alone, "several", DIALOGUE)):
            at = places[chosen.to_numpy()]
            hi[at], lo[at] = text_digests(told[name].filter(chosen), person=person)
    if columns is None or columns:
        _add_columns((hi, lo), _beside(frame, columns), _COLUMNS)
    held = _held(frame)
    if held is not None:
        _add_columns((hi, lo), held, _HELD)
    return pl.DataFrame({"hi": hi, "lo": lo})


def _questions(frame: pl.DataFrame) -> pl.DataFrame:
    """Return questions: one (String), alone; several (String), under a system message, as one text."""
    import polars as pl

    system = frame["system"].replace("", None)
    if system.null_count() == frame.height:
        return frame.select(one="question", several=pl.lit(None, dtype=pl.String))
    both = pl.concat_str(*(canonical(pl.lit(role), pl.col(name)) for role, name in _ROLES))
    several = pl.when(pl.col("system").is_not_null()).then(both)
    return frame.select(one="question", system=system, question="question").select("one", several=several)


_ROLES = (("system", "system"), ("user", "question"))


def _conversations(frame: pl.DataFrame) -> pl.DataFrame:
    """Take the turns before the answer that closes each conversation, under the system message as a template prints it.

    Returns: one (String): the only message's content, where it is one of a user; several (String): all of them.
    """
    import polars as pl

    said, first = pl.element().struct, pl.col("m").list.first().struct
    blank = (first.field("role") == "system") & (first.field("content").fill_null("") == "")
    turns = pl.col("m").list.len().cast(pl.Int64) - pl.lit(ends_with_answer(frame["messages"])).cast(pl.Int64)
    frame = frame.select(m="messages", system=frame["system"].replace("", None))
    frame = frame.with_columns(m=pl.col("m").list.head(turns))
    if frame.select(blank.any()).item():
        frame = frame.with_columns(m=pl.when(blank).then(pl.col("m").list.slice(1)).otherwise("m"))
    frame = frame.with_columns(system=pl.when(first.field("role").ne_missing(pl.lit("system"))).then("system"))
    only = (
        (pl.col("m").list.len() == 1)
        & (pl.col("m").list.first().struct.field("role") == "user")
        & pl.col("system").is_null()
    )
    joined = pl.col("m").list.eval(canonical(said.field("role"), said.field("content"))).list.join("")
    head = canonical(pl.lit("system"), pl.col("system"))
    return frame.select(
        one=pl.when(only).then(pl.col("m").list.first().struct.field("content")),
        several=pl.when(~only).then(
            pl.concat_str(pl.when(pl.col("system").is_not_null()).then(head), joined, ignore_nulls=True)
        ),
    )


def _beside(frame: pl.DataFrame, columns: tuple[str, ...] | None) -> pl.Series:
    """Join the other columns that count to one text; null where a row has none of them."""
    import polars as pl

    said = pl.element().struct
    names, kept = said.field("name"), said.field("value").is_not_null()
    if columns is not None:
        kept &= names.is_in(list(columns))
    pairs = pl.col("extra").list.eval(
        pl.concat_str(pl.lit("+"), canonical(names, said.field("value"))).filter(kept).sort()
    )
    parts = [pairs.list.join("")]
    if columns is None or OPTIONS in columns:
        listed = pl.col(OPTIONS).list.eval(canonical(pl.element())).list.join("")
        parts.append(pl.when(pl.col(OPTIONS).list.len() > 0).then(pl.concat_str(pl.lit("?"), listed)))
    words = [word for word in WORDS if columns is None or word in columns]
    parts += [pl.when(pl.col(word).is_not_null()).then(canonical(pl.lit(word), pl.col(word))) for word in words]
    text = pl.concat_str(parts, ignore_nulls=True)
    return frame.select(text=pl.when(text != "").then(text))["text"]


def _held(frame: pl.DataFrame) -> pl.Series | None:
    """Join to one text all that messages before the answer hold besides their contents, and the row's columns for the
    template. Null for a row without any; None if no row has any."""
    import polars as pl

    there = {field.name for field in frame.schema["messages"].inner.fields}  # type: ignore[attr-defined]
    names, rows = [name for name in _FIELDS if name in there], [name for name in BESIDE_MESSAGES if name in frame]
    if not names and not rows:
        return None
    said = pl.element().struct
    place = said.field("role").cum_count().cast(pl.String)
    told = [
        pl.when(said.field(name).is_not_null()).then(canonical(pl.lit(name), place, said.field(name))) for name in names
    ]
    turns = frame["messages"].list.len().cast(pl.Int64) - ends_with_answer(frame["messages"]).cast(pl.Int64)
    before = pl.col("messages").list.head(pl.lit(turns))
    parts = [before.list.eval(pl.concat_str(told, ignore_nulls=True)).list.join("")] if told else []
    parts += [pl.when(pl.col(name).is_not_null()).then(canonical(pl.lit(name), pl.col(name))) for name in rows]
    text = pl.concat_str(parts, ignore_nulls=True)
    return frame.select(text=pl.when(text != "").then(text))["text"]


def _add_columns(digests: Digests, beside: pl.Series, person: bytes) -> None:
    """Let the other columns count, in place, for the rows that have some."""
    rows = np.flatnonzero(beside.is_not_null().to_numpy())
    for half, other in zip(digests, text_digests(beside.drop_nulls(), person=person), strict=True):
        half[rows] = splitmix64(splitmix64(half[rows]) ^ other)
