"""Verb `questions`: the digest of every question of a collection, by which mixtures are kept apart by content.

The question of a row with messages is what stands before its first trained answer, without a system message; one user
message alone is the same question as a row that has its text. The stage is made only where a mixture asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import canonical, text_digests
from orca_recipes.run.arrow import read_frame, write_frame
from orca_recipes.run.read import batches_of
from orca_recipes.run.store import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

DIALOGUE = b"dialogue"
"""Sets the digests of several messages apart from that of one text."""

_HELD_AT_ONCE = 1 << 24

Digests = tuple[np.ndarray, np.ndarray]
"""uint64 [rows] twice, high and low half."""


@dataclass(frozen=True)
class RowsTask:
    """Look at some batches of examples."""

    name: str
    folder: Path
    batches: tuple[Path, ...]


def rows_tasks(read: StageFolder, folder: StageFolder) -> list[RowsTask]:
    """One task for each part of a `read` stage, in the order of its rows."""
    grouped: dict[str, list[Path]] = {}
    for batch in batches_of(read):
        grouped.setdefault(batch.path.name.rpartition("-")[0], []).append(batch.path)
    return [RowsTask(name, folder.path, tuple(paths)) for name, paths in grouped.items()]


def digest_part(task: RowsTask) -> int:
    """Store the digests of one part's questions; return how many."""
    import polars as pl

    frames = [_digests(read_frame(path, columns=["question", "messages"])) for path in task.batches]
    frame = pl.concat(frames)
    writer = PartWriter(task.folder, task.name)
    write_frame(writer.path(".arrow"), frame)
    writer.keep([".arrow"], {"rows": frame.height})
    return frame.height


def read_questions(folder: StageFolder) -> Digests:
    """The digests of a finished `questions` stage, aligned with the ids of its collection."""
    frames = [read_frame(part.file(".arrow")) for part in folder.parts()]
    if not frames:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64)
    hi, lo = (np.concatenate([frame[name].to_numpy() for frame in frames]) for name in ("hi", "lo"))
    return hi, lo


def stand_in(mine: Digests, others: Sequence[Digests]) -> np.ndarray:
    """bool [rows]: whose digest stands among the others.

    In slices by the first bits of the digests, so that no more than some millions are held in a table at a time.
    """
    import polars as pl

    found = np.zeros(len(mine[0]), dtype=np.bool_)
    slices = 1 + (len(found) + sum(len(other[0]) for other in others)) // _HELD_AT_ONCE
    for number in range(slices):
        rows = _slice(mine, number, slices)
        held = [tuple(half[chosen] for half in other) for other in others for chosen in [_slice(other, number, slices)]]
        left = pl.DataFrame({"hi": mine[0][rows], "lo": mine[1][rows], "row": rows})
        right = pl.DataFrame(
            {name: np.concatenate([half[at] for half in held]) for at, name in enumerate(("hi", "lo"))},
            schema={"hi": pl.UInt64, "lo": pl.UInt64},
        )
        found[left.join(right, on=["hi", "lo"], how="semi")["row"].to_numpy()] = True
    return found


def _slice(digests: Digests, number: int, slices: int) -> np.ndarray:
    if slices == 1:
        return np.arange(len(digests[0]))
    return np.flatnonzero(digests[0] % np.uint64(slices) == np.uint64(number))


def questions_text(messages: pl.Series) -> pl.DataFrame:
    """The messages before the first trained one of each conversation, without system messages, as texts.

    Returns: one (String): the only message's content, where it is one of a user; several (String): all of them.
    """
    import polars as pl

    before = before_answer(messages)
    only = (pl.col("q").list.len() == 1) & (pl.col("q").list.first().struct.field("role") == "user")
    element = pl.element()
    joined = (
        pl.col("q").list.eval(canonical(element.struct.field("role"), element.struct.field("content"))).list.join("")
    )
    return before.to_frame("q").select(
        one=pl.when(only).then(pl.col("q").list.first().struct.field("content")),
        several=pl.when(~only).then(joined),
    )


def before_answer(messages: pl.Series, *, system: bool = False) -> pl.Series:
    """The messages of each conversation up to its first trained one; system: whether system messages stay."""
    import polars as pl

    column = pl.col("m")
    first = column.list.eval(pl.element().struct.field("trained").fill_null(False).arg_max()).list.first()
    any_trained = column.list.eval(pl.element().struct.field("trained").fill_null(False)).list.any()
    context = pl.when(any_trained).then(column.list.head(first)).otherwise(column)
    if not system:
        context = context.list.eval(pl.element().filter(pl.element().struct.field("role") != "system"))
    return messages.to_frame("m").select(q=context)["q"]


def _digests(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    hi, lo = text_digests(frame["question"])
    talks = np.flatnonzero(frame["messages"].is_not_null().to_numpy())
    if len(talks):
        texts = questions_text(frame["messages"].gather(talks.tolist()))
        alone = texts["several"].is_null().to_numpy()
        for rows, name, person in ((alone, "one", b""), (~alone, "several", DIALOGUE)):
            digests = text_digests(texts[name].filter(pl.Series(rows)), person=person)
            hi[talks[rows]], lo[talks[rows]] = digests
    return pl.DataFrame({"hi": hi, "lo": lo})


def questions_report(folder: StageFolder, names: Sequence[str]) -> dict[str, Any]:
    """The report of the stage."""
    rows = sum(folder.part(name).report["rows"] for name in names)
    return {"in": rows, "out": rows, "rejected": {}}
