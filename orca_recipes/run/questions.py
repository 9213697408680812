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

_HELD_AT_ONCE = 1 << 21
_NONE = np.empty(0, dtype=np.uint64)
_SIDE = np.uint64(1)
_FEW = 16
"""Where fewer than one in so many rows may be among the others, those rows are sought out first."""

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

    In slices by the first bits of the digests, so that no more than some millions are held a second time; and whole
    digests are looked up only where high halves are nearly alike, because to sort numbers costs a third of a table.
    """
    found = np.zeros(len(mine[0]), dtype=np.bool_)
    total = len(found) + sum(len(other[0]) for other in others)
    bits = (total // _HELD_AT_ONCE).bit_length()
    for number in range(1 << bits):
        rows = _slice(mine[0], number, bits)
        held = [(other, _slice(other[0], number, bits)) for other in others]
        shared = _shared(mine[0][rows], np.concatenate([_NONE, *(other[0][chosen] for other, chosen in held)]))
        if not len(shared):
            continue
        if len(shared) * _FEW < len(rows):
            rows = rows[_is_among(mine[0][rows], shared)]
            held = [(other, chosen[_is_among(other[0][chosen], shared)]) for other, chosen in held]
        hi, lo = (np.concatenate([other[at][chosen] for other, chosen in held]) for at in (0, 1))
        found[rows[_members((mine[0][rows], mine[1][rows]), (hi, lo))]] = True
    return found


def _slice(values: np.ndarray, number: int, bits: int) -> np.ndarray:
    if not bits:
        return np.arange(len(values))
    return np.flatnonzero(values >> np.uint64(64 - bits) == number)


def _shared(mine: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The values but for their last bit, rising, that stand on both sides: sorted together, the side as last bit, they
    are where it changes and nothing else does."""
    joined = np.concatenate([mine, others]) & ~_SIDE
    joined[: len(mine)] |= _SIDE
    joined.sort()
    return np.asarray(joined[:-1][(joined[1:] ^ joined[:-1]) == _SIDE])


def _is_among(values: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """bool [values]: which are among the shared ones, but for their last bit."""
    even = values & ~_SIDE
    return np.asarray(shared[np.minimum(np.searchsorted(shared, even), len(shared) - 1)] == even)


def _members(mine: Digests, others: Digests) -> np.ndarray:
    """int64: the places of those that stand among the others."""
    import polars as pl

    left = pl.DataFrame({"hi": mine[0], "lo": mine[1], "row": np.arange(len(mine[0]))})
    right = pl.DataFrame({"hi": others[0], "lo": others[1]})
    return left.join(right, on=["hi", "lo"], how="semi")["row"].to_numpy()


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
