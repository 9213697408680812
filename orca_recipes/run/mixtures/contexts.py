"""Verb `contexts`: the digest of all that stands before a row's answer, by which duplicates are found.

That is the system message, every turn up to the answer that closes a conversation, and those other columns that some
strategy of the recipe asks with: two rows are duplicates where the student or the teacher would see the same. Calls and
reasoning of those turns, and a row's tools and variables of the template, count where there are any. A row with a
question alone is the same as a conversation with that one turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.draws import canonical, splitmix64, text_digests
from orca_recipes.contract.frames import BESIDE_MESSAGES
from orca_recipes.contract.messages import ends_with_answer
from orca_recipes.plan.mixing import context_columns
from orca_recipes.run.examples.row_digests import Digests
from orca_recipes.run.mixtures.context_digests import context_digests
from orca_recipes.run.mixtures.questions import RowsTask, finish, rows_tasks
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_table, write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

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

    frames = [_digests(read_table(path), task.columns) for path in task.rows.batches]
    frame = pl.concat(frames)
    writer = PartWriter(task.rows.folder, task.name)
    write_frame(writer.path(".arrow"), frame)
    writer.keep([".arrow"], {"rows": frame.height})
    return frame.height


def _digests(rows: pa.Table, columns: tuple[str, ...] | None) -> pl.DataFrame:
    """Digest the contexts of a batch: hi, lo."""
    import polars as pl

    digests = context_digests(rows)
    if columns is None or columns:
        _add_columns(digests, _beside(_frame(rows, [*WORDS, OPTIONS, "extra"]), columns), _COLUMNS)
    held = _held(rows)
    if held is not None:
        _add_columns(digests, held, _HELD)
    return pl.DataFrame({"hi": digests[0], "lo": digests[1]})


def _frame(rows: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(rows.select(columns), rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


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


def _held(rows: pa.Table) -> pl.Series | None:
    """Join to one text all that messages before the answer hold besides their contents, and the row's columns for the
    template. Null for a row without any; None if no row has any."""
    import polars as pl

    there = {field.name for field in rows.schema.field("messages").type.value_type.fields}
    names = [name for name in _FIELDS if name in there]
    columns = [name for name in BESIDE_MESSAGES if name in rows.column_names]
    if not names and not columns:
        return None
    frame = _frame(rows, ["messages", *columns])
    said = pl.element().struct
    place = said.field("role").cum_count().cast(pl.String)
    told = [
        pl.when(said.field(name).is_not_null()).then(canonical(pl.lit(name), place, said.field(name))) for name in names
    ]
    turns = frame["messages"].list.len().cast(pl.Int64) - ends_with_answer(frame["messages"]).cast(pl.Int64)
    before = pl.col("messages").list.head(pl.lit(turns))
    parts = [before.list.eval(pl.concat_str(told, ignore_nulls=True)).list.join("")] if told else []
    parts += [pl.when(pl.col(name).is_not_null()).then(canonical(pl.lit(name), pl.col(name))) for name in columns]
    text = pl.concat_str(parts, ignore_nulls=True)
    return frame.select(text=pl.when(text != "").then(text))["text"]


def _add_columns(digests: Digests, beside: pl.Series, person: bytes) -> None:
    """Let the other columns count, in place, for the rows that have some."""
    rows = np.flatnonzero(beside.is_not_null().to_numpy())
    for half, other in zip(digests, text_digests(beside.drop_nulls(), person=person), strict=True):
        half[rows] = splitmix64(splitmix64(half[rows]) ^ other)
