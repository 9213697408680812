"""Verb `questions`: the digest of every question of a collection, by which mixtures are kept apart by content.

The question of a conversation is what its user asks first; where answers stand as history, which nobody is trained on,
it also is what the first trained answer answers. System messages and answers are part of neither, so that a question
that is held out is found under whatever stands around it; a row that has its text alone holds the same question. The
stage is made only where a mixture asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.draws import canonical, text_digests
from orca_recipes.contract.messages import ends_with_answer
from orca_recipes.counted import counted
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.row_digests import Digests, joined, read_digests, stand_in
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_frame, write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

DIALOGUE = b"dialogue"
"""Sets the digests of several messages apart from that of one text."""


HELD = "questions"
"""The part of stage `allot` that holds the questions that are set aside."""


@dataclass(frozen=True)
class Questions:
    """The questions of a collection.

    first: what each row asks first, aligned with the ids of its collection. last_rows: int64 [n], rising, the rows
    whose first trained answer stands behind others; last: what it answers.
    """

    first: Digests
    last_rows: np.ndarray
    last: Digests

    def of(self, rows: np.ndarray) -> Digests:
        """Collect all questions of some rows: bool [rows]."""
        chosen = rows[self.last_rows]
        hi, lo = (np.concatenate([self.first[at][rows], self.last[at][chosen]]) for at in (0, 1))
        return hi, lo

    def among(self, others: Sequence[Digests], rows: np.ndarray) -> np.ndarray:
        """Mark the rows (given by place, rising) that have a question among those of others: bool [rows]."""
        found = stand_in((self.first[0][rows], self.first[1][rows]), others)
        if len(self.last_rows):
            place = np.minimum(np.searchsorted(rows, self.last_rows), max(len(rows) - 1, 0))
            chosen = np.flatnonzero(rows[place] == self.last_rows) if len(rows) else place[:0]
            held = stand_in((self.last[0][chosen], self.last[1][chosen]), others)
            found[place[chosen[held]]] = True
        return found


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `questions` of a collection."""
    tasks = rows_tasks(bench.folder(f"read {subject}"), folder)
    bench.map_parts(folder, f"questions {subject}", digest_part, tasks, [1] * len(tasks), "parts")
    finish(bench, folder, [task.name for task in tasks])


def finish(bench: Bench, folder: StageFolder, names: Sequence[str], noun: str = "question") -> None:
    """Finish a stage that tells one thing of each row; noun: what that is, for people."""
    rows = sum(folder.part(name).report["rows"] for name in names)
    folder.finish(names, {"in": rows, "out": rows, "rejected": {}})
    bench.progress.end(counted(rows, noun))


@dataclass(frozen=True)
class RowsTask:
    """Look at some batches of examples."""

    name: str
    folder: Path
    batches: tuple[Path, ...]


def rows_tasks(read: StageFolder, folder: StageFolder) -> list[RowsTask]:
    """Make one task for each part of a `read` stage, in the order of its rows."""
    grouped: dict[str, list[Path]] = {}
    for batch in batches_of(read):
        grouped.setdefault(batch.path.name.rpartition("-")[0], []).append(batch.path)
    return [RowsTask(name, folder.path, tuple(paths)) for name, paths in grouped.items()]


def digest_part(task: RowsTask) -> int:
    """Store the digests of one part's questions; return how many."""
    import polars as pl

    frames, lasts, rows = [], [], 0
    for path in task.batches:
        frame, last = _digests(read_frame(path, columns=["question", "messages"]))
        frames.append(frame)
        lasts.append(last.with_columns(pl.col("row") + rows))
        rows += frame.height
    writer = PartWriter(task.folder, task.name)
    write_frame(writer.path(".arrow"), pl.concat(frames))
    write_frame(writer.path(".last.arrow"), pl.concat(lasts))
    writer.keep([".arrow", ".last.arrow"], {"rows": rows})
    return rows


def read_questions(folder: StageFolder) -> Questions:
    """Read the questions of a finished `questions` stage."""
    parts = folder.parts()
    starts = np.cumsum([0, *(part.report["rows"] for part in parts)])
    lasts = [read_frame(part.file(".last.arrow")) for part in parts]
    rows = [last["row"].to_numpy() + start for last, start in zip(lasts, starts, strict=False)]
    return Questions(read_digests(folder), np.concatenate([np.empty(0, dtype=np.int64), *rows]), joined(lasts))


def keep_questions(folder: StageFolder, digests: Sequence[Digests]) -> str:
    """Store the digests of questions that are set aside, as a part; return its name."""
    import polars as pl

    writer = PartWriter(folder.path, HELD)
    halves = {name: np.concatenate([pair[at] for pair in digests]) for at, name in enumerate(("hi", "lo"))}
    write_frame(writer.path(".arrow"), pl.DataFrame(halves, schema={"hi": pl.UInt64, "lo": pl.UInt64}))
    writer.keep([".arrow"], {})
    return HELD


def held_questions(folder: StageFolder) -> Digests:
    """Read the digests that `keep_questions` stored."""
    frame = read_frame(folder.file(f"{HELD}.arrow"))
    return frame["hi"].to_numpy(), frame["lo"].to_numpy()


def questions_text(messages: pl.Series) -> pl.DataFrame:
    """Extract the questions of each conversation's user, as texts.

    First is what stands before the first answer: turns before a user's are left out, as are system messages.
    Returns: one (String): the only message's content, where it is one of a user; several (String): all of them; last
        (String): what the user says last before the first trained answer, null where no other answer stands before it.
    """
    import polars as pl

    said, element = pl.element().struct, pl.element()
    users, answers = (messages.list.eval(said.field("role").eq_missing(pl.lit(role))) for role in ("user", "assistant"))
    frame = pl.DataFrame({"m": messages, "users": users, "answers": answers})
    # A conversation that an assistant or a system message begins asks nothing until its user speaks.
    start = pl.when(pl.col("users").list.any()).then(pl.col("users").list.arg_max()).otherwise(0)
    frame = frame.with_columns(pl.col("m", "answers").list.slice(start))
    stop = pl.when(pl.col("answers").list.any()).then(pl.col("answers").list.arg_max())
    frame = frame.with_columns(q=pl.col("m").list.head(stop.fill_null(pl.col("m").list.len())))
    last = _last_question(frame["m"], frame["q"].list.len())
    frame = frame.select(q=pl.col("q").list.eval(element.filter(said.field("role").ne_missing(pl.lit("system")))))
    only = (pl.col("q").list.len() == 1) & (pl.col("q").list.first().struct.field("role") == "user")
    joined = pl.col("q").list.eval(canonical(said.field("role"), said.field("content"))).list.join("")
    return frame.select(
        one=pl.when(only).then(pl.col("q").list.first().struct.field("content")),
        several=pl.when(~only).then(joined),
        last=last,
    )


def _last_question(messages: pl.Series, first_answer: pl.Series) -> pl.Series:
    """Take the last question before the first trained answer; null if that is the first answer of all."""
    import polars as pl

    said = pl.element().struct
    before = before_answer(messages)
    asked = before.list.eval(said.field("content").filter(said.field("role") == "user")).list.last()
    has_history = before.list.len() > first_answer
    return pl.DataFrame({"asked": asked}).select(last=pl.when(has_history).then("asked"))["last"]


def before_answer(messages: pl.Series) -> pl.Series:
    """Take the messages of each conversation up to its first trained one. One that ends on another message than an
    answer is kept whole: its answer is in another column, and its own are history."""
    import polars as pl

    trained = pl.col("m").list.eval(pl.element().struct.field("trained").fill_null(value=False))
    frame = pl.DataFrame({"m": messages, "answered": ends_with_answer(messages)})
    first = frame.select(first=pl.when(pl.col("answered") & trained.list.any()).then(trained.list.arg_max()))["first"]
    return frame.select(q=pl.col("m").list.head(pl.lit(first).fill_null(pl.col("m").list.len())))["q"]


def _digests(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Compute the digest of each row's first question: hi, lo; and of questions asked after untrained answers: row, hi,
    lo."""
    import polars as pl

    is_talk = frame["messages"].is_not_null()
    talks, told = (np.flatnonzero(rows.to_numpy()) for rows in (is_talk, ~is_talk))
    hi, lo = (np.zeros(frame.height, dtype=np.uint64) for _ in range(2))
    hi[told], lo[told] = text_digests(frame["question"].filter(~is_talk))
    rows, last = np.empty(0, dtype=np.int64), 2 * (np.empty(0, dtype=np.uint64),)
    if len(talks):
        texts = questions_text(frame["messages"].gather(talks.tolist()))
        alone = texts["several"].is_null().to_numpy()
        # Apart by person, so that a dialogue never has the digest of a text that spells it.
        for chosen, name, person in ((alone, "one", b""), (~alone, "several", DIALOGUE)):
            digests = text_digests(texts[name].filter(pl.Series(chosen)), person=person)
            hi[talks[chosen]], lo[talks[chosen]] = digests
        again = texts["last"].is_not_null()
        rows, last = talks[again.to_numpy()], text_digests(texts["last"].filter(again))
    return (
        pl.DataFrame({"hi": hi, "lo": lo}),
        pl.DataFrame({"row": rows, "hi": last[0], "lo": last[1]}, schema_overrides={"row": pl.Int64}),
    )
