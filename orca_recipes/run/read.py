"""Verb `read`: a collection's files become examples with ids.

Parts are read on their own; identity needs all of them, because equal rows are numbered among each other and one
explicit id must not stand on two contents. So a part keeps the digest of each row's identity, and `index_examples`
turns digests into ids once all parts are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Slice, Source
from orca_recipes.errors import SourceError
from orca_recipes.run.arrow import read_frame, write_frame, write_table
from orca_recipes.run.digests import Pinned, changed, unchanged
from orca_recipes.run.identity import CONTRADICTED, FREE, TAKEN, numbered_ids, with_identity
from orca_recipes.run.store import Part, PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

BATCH_BYTES = 4 << 20
"""Text of one batch of examples, about: the unit of work of the stages that follow."""

IDS = "ids"


@dataclass(frozen=True)
class ReadTask:
    """Read some slices of a collection into one part; `pinned` are the files that must not change meanwhile."""

    name: str
    folder: Path
    collection: str
    source: Source
    slices: tuple[Slice, ...]
    pinned: tuple[Pinned, ...]


@dataclass(frozen=True)
class Batch:
    """A batch of examples: its file, and which rows of the collection's ids it holds."""

    path: Path
    start: int
    stop: int


def read_tasks(
    source: Source, *, collection: str, folder: Path, slice_bytes: int, pinned: Mapping[str, Pinned]
) -> list[ReadTask]:
    """Cut a source into parts of about slice_bytes; small files share a part.

    Args:
        pinned: the source's files by name, as the stage's fingerprint means them.
    Raises: SourceError where a file is no longer what was pinned.
    """
    with unchanged(pinned.values()):
        slices = source.slices(slice_bytes=slice_bytes)
    if new := next((piece.file for piece in slices if piece.file and piece.file.name not in pinned), None):
        raise changed(new.path)
    # A file that no slice names (a list of splits) decides every part.
    everywhere = set(pinned) - {piece.file.name for piece in slices if piece.file}
    groups: list[list[Slice]] = []
    room = 0
    for piece in slices:
        size = piece.stop - piece.start
        if not groups or size > room:
            groups.append([])
            room = slice_bytes
        groups[-1].append(piece)
        room -= size
    return [
        ReadTask(
            name=f"part-{number:05d}-of-{len(groups):05d}-{slice_bytes}",
            folder=folder,
            collection=collection,
            source=source,
            slices=tuple(group),
            pinned=tuple(pinned[name] for name in sorted(everywhere | {p.file.name for p in group if p.file})),
        )
        for number, group in enumerate(groups)
    ]


def read_part(task: ReadTask) -> int:
    """Read, check and store one part; return its rows.

    Raises: SourceError where a file changed while it was read; then nothing is kept of the part.
    """
    writer = PartWriter(task.folder, task.name)
    batches: list[dict[str, Any]] = []
    rejected: list[pl.DataFrame] = []
    passed_over: Counter[str] = Counter()
    with unchanged(task.pinned):
        for frame in _gathered(_examples(task, rejected, passed_over)):
            suffix = f"-{len(batches):05d}.arrow"
            write_table(writer.path(suffix), with_identity(frame, task.collection))
            batches.append({"suffix": suffix, "rows": frame.height})
    write_frame(writer.path(".rejected.arrow"), _joined_rejections(rejected))
    report = {
        "batches": batches,
        "rejected": sum(frame.height for frame in rejected),
        "passed_over": dict(passed_over),
    }
    writer.keep([batch["suffix"] for batch in batches] + [".rejected.arrow"], report)
    return sum(batch["rows"] for batch in batches)


def index_examples(folder: StageFolder, names: Sequence[str], *, collection: str, source: Source) -> dict[str, Any]:
    """Give every example its id, reject those whose id is taken, and count: the report of the stage.

    Raises: SourceError where more rows are bad than the source allows.
    """
    import polars as pl

    parts = [folder.part(name) for name in names]
    # Only these: a frame over all columns looks at every text, and the whole collection is then in memory.
    wanted = ["digest_hi", "digest_lo", "content", "task"]
    columns = [read_frame(path, columns=wanted) for path in _paths(parts)]
    identity = pl.concat(columns) if columns else None
    if identity is None or not identity.height:
        hi = lo = np.empty(0, dtype=np.uint64)
        taken = np.empty(0, dtype=np.int8)
    else:
        hi, lo, taken = numbered_ids(identity)
    keep = taken == FREE
    rejected = pl.concat([read_frame(part.file(".rejected.arrow")) for part in parts] + [_taken_rows(parts, taken)])
    _refuse_many_bad_rows(rejected, len(keep), collection, source)
    writer = PartWriter(folder.path, IDS)
    write_frame(writer.path(".arrow"), pl.DataFrame({"id_hi": hi, "id_lo": lo, "keep": keep}))
    write_frame(writer.path(".rejected.arrow"), rejected)
    by_task = identity.filter(keep)["task"].value_counts(sort=True) if identity is not None else pl.DataFrame()
    writer.keep([".arrow", ".rejected.arrow"], {})
    return {
        "in": len(keep) + sum(part.report["rejected"] for part in parts),
        "out": int(keep.sum()),
        "rejected": count_reasons(rejected["reason"]),
        "passed_over": dict(sorted(sum((Counter(part.report["passed_over"]) for part in parts), Counter()).items())),
        "tasks": dict(sorted(by_task.iter_rows())),
    }


def batches_of(folder: StageFolder) -> list[Batch]:
    """The batches of a finished `read` stage, in the order of its ids."""
    found, start = [], 0
    for part in folder.parts():
        for batch in part.report.get("batches", ()):
            found.append(Batch(part.file(batch["suffix"]), start, start + batch["rows"]))
            start += batch["rows"]
    return found


def count_reasons(reasons: pl.Series) -> dict[str, int]:
    """Reason to number of rows, most frequent first."""
    counts = reasons.value_counts().sort(["count", reasons.name], descending=[True, False])
    return dict(counts.iter_rows())


def _examples(task: ReadTask, rejected: list[pl.DataFrame], passed_over: Counter[str]) -> Iterator[pl.DataFrame]:
    import polars as pl

    for piece in task.slices:
        file = pl.lit(piece.file.name if piece.file else None, dtype=pl.String).alias("file")
        for reading in task.source.read(slice=piece):
            passed_over.update(reading.passed_over)
            rows = completed(reading.rows, rows_schema()).with_columns(file, pl.col("task").fill_null(task.collection))
            reasons = _unfit(rows)
            bad = rows.with_columns(reasons.alias("reason")).filter(reasons.is_not_null()).select("place", "reason")
            for frame in (completed(reading.rejected, rejected_rows_schema()), bad):
                rejected.extend([frame.with_columns(file, pl.lit(True).alias("bad"))] if frame.height else [])
            yield rows.filter(reasons.is_null()) if bad.height else rows


def _unfit(rows: pl.DataFrame) -> pl.Series:
    """Why a row that was read cannot be an example."""
    import polars as pl

    roles = pl.col("messages").list.eval(pl.element().struct.field("role"))
    has_messages = pl.col("messages").is_not_null()
    return rows.select(
        reason=pl.when(pl.col("question").is_null() & ~has_messages)
        .then(pl.lit("question: there is none"))
        .when(~has_messages & (pl.col("question").str.len_bytes() == 0))
        .then(pl.lit("question: it is empty"))
        .when(has_messages & (pl.col("messages").list.len() == 0))
        .then(pl.lit("messages: there are none"))
        .when(has_messages & roles.list.slice(1).list.contains("system"))
        .then(pl.lit("messages: a system message stands after the first message"))
    )["reason"]


def _gathered(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Join small frames into batches."""
    import polars as pl

    waiting: list[pl.DataFrame] = []
    size = 0
    for frame in frames:
        waiting.append(frame)
        size += int(frame.estimated_size())
        if size >= BATCH_BYTES:
            yield pl.concat(waiting, rechunk=True)
            waiting, size = [], 0
    if waiting:
        yield pl.concat(waiting, rechunk=True)


def _taken_rows(parts: Sequence[Part], taken: np.ndarray) -> pl.DataFrame:
    """The rejections of rows whose id is taken; equal rows are no bad rows."""
    import polars as pl

    frames = [_joined_rejections([])]
    start = 0
    counts = [batch["rows"] for part in parts for batch in part.report["batches"]]
    for path, count in zip(_paths(parts), counts, strict=True):
        reasons = taken[start : start + count]
        start += count
        lost = np.flatnonzero(reasons != FREE)
        if len(lost):
            rows = read_frame(path, columns=["place", "file"])[lost]
            named = pl.Series("reason", TAKEN, dtype=pl.String).gather(reasons[lost])
            bad = pl.Series("bad", reasons[lost] == CONTRADICTED)
            frames.append(rows.with_columns(named, bad).select("place", "reason", "file", "bad"))
    return pl.concat(frames)


def _joined_rejections(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    schema = {**rejected_rows_schema(), "file": pl.String, "bad": pl.Boolean}
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def _paths(parts: Sequence[Part]) -> list[Path]:
    return [part.file(batch["suffix"]) for part in parts for batch in part.report["batches"]]


def _refuse_many_bad_rows(rejected: pl.DataFrame, others: int, collection: str, source: Source) -> None:
    import polars as pl

    bad = rejected.filter(pl.col("bad"))
    rows = others + rejected.filter(~pl.col("reason").str.starts_with("id: an earlier row")).height
    allowed = {"reject": rows, "error": 0, None: rows // 100}[source.on_bad_row]
    if bad.height <= allowed:
        return
    file, place, reason = bad.sort("file", "place").select("file", "place", "reason").row(0)
    share = "" if source.on_bad_row else " (more than one in a hundred)"
    raise SourceError(
        f"collections.{collection}: {bad.height} of {rows} rows cannot be used{share}, "
        f"the first at {file or 'row'}:{place}: "
        f'{reason}; mend the rows, or set on_bad_row = "reject" to go on without them'
    )
