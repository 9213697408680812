"""Verb `read`: a collection's files become examples with ids.

Parts are read on their own; identity needs all of them, because equal rows are numbered among each other and one
explicit id must not stand on two contents. So a part keeps the digest of each row's identity, and `index_examples`
turns digests into ids once all parts are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import canonical, splitmix64, text_digests
from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Slice, Source
from orca_recipes.errors import SourceError
from orca_recipes.run.arrow import read_frame, string_buffers, write_frame
from orca_recipes.run.digests import Pinned, changed, unchanged
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
    with unchanged(task.pinned):
        for frame in _gathered(_examples(task, rejected)):
            suffix = f"-{len(batches):05d}.arrow"
            write_frame(writer.path(suffix), _with_identity(frame, task.collection))
            batches.append({"suffix": suffix, "rows": frame.height})
    write_frame(writer.path(".rejected.arrow"), _joined_rejections(rejected))
    report = {"batches": batches, "rejected": sum(frame.height for frame in rejected)}
    writer.keep([batch["suffix"] for batch in batches] + [".rejected.arrow"], report)
    return sum(batch["rows"] for batch in batches)


def index_examples(folder: StageFolder, names: Sequence[str], *, collection: str, source: Source) -> dict[str, Any]:
    """Give every example its id, reject those whose id is taken, and count: the report of the stage.

    Raises: SourceError where more rows are bad than the source allows.
    """
    import polars as pl

    parts = [folder.part(name) for name in names]
    columns = [read_frame(path).select("digest_hi", "digest_lo", "content", "task") for path in _paths(parts)]
    identity = pl.concat(columns) if columns else None
    if identity is None or not identity.height:
        hi = lo = np.empty(0, dtype=np.uint64)
        taken = np.empty(0, dtype="U1")
    else:
        hi, lo, taken = _ids(identity)
    keep = taken == ""
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


def _examples(task: ReadTask, rejected: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    import polars as pl

    for piece in task.slices:
        file = pl.lit(piece.file.name if piece.file else None, dtype=pl.String).alias("file")
        for reading in task.source.read(slice=piece):
            rows = completed(reading.rows, rows_schema()).with_columns(file, pl.col("task").fill_null(task.collection))
            reasons = _unfit(rows)
            bad = rows.with_columns(reasons.alias("reason")).filter(reasons.is_not_null()).select("place", "reason")
            for frame in (completed(reading.rejected, rejected_rows_schema()), bad):
                rejected.extend([frame.with_columns(file, pl.lit(True).alias("bad"))] if frame.height else [])
            yield rows.filter(reasons.is_null())


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


def _with_identity(rows: pl.DataFrame, collection: str) -> pl.DataFrame:
    import polars as pl

    lists = {
        "references": _texts_of_lists(rows["references"], pl.col("references")),
        "messages": _texts_of_lists(
            rows["messages"],
            pl.col("messages").struct.field("role"),
            pl.col("messages").struct.field("content"),
            pl.col("messages").struct.field("trained").cast(pl.String),
        ),
    }
    names = ("task", "question", "references", "system", "answer", "messages")
    content = canonical(*(pl.col(name) for name in names))
    texts = rows.with_columns(**lists).select(
        content=content,
        identity=pl.when(pl.col("id").is_null())
        .then(pl.concat_str([canonical(pl.lit(collection), pl.lit("content")), content]))
        .otherwise(canonical(pl.lit(collection), pl.lit("id"), pl.col("id"))),
    )
    hi, lo = text_digests(texts["identity"])
    named = rows["id"].is_not_null().to_numpy()
    content_digest = np.zeros(rows.height, dtype=np.uint64)
    content_digest[named] = text_digests(texts["content"].filter(rows["id"].is_not_null()))[0]
    return rows.drop("id").with_columns(
        pl.Series("digest_hi", hi),
        pl.Series("digest_lo", lo),
        pl.Series("content", content_digest),
    )


def _texts_of_lists(lists: pl.Series, *parts: pl.Expr) -> pl.Series:
    """One text a list, the canonical texts of its elements one after the other; null for null.

    The elements' texts stand one after the other in memory as they are: a list's text is a longer span of the same.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    if lists.null_count() == len(lists):
        return pl.Series(lists.name, [None] * len(lists), dtype=pl.String)
    column = lists.rechunk().to_arrow()
    ends = np.cumsum(np.asarray(pc.list_value_length(column).fill_null(0)), dtype=np.int64)
    elements: Any = pl.from_arrow(column.flatten())
    texts = elements.alias(lists.name).to_frame().select(text=canonical(*parts))["text"].rechunk().to_arrow()
    offsets, data = string_buffers(texts)
    spans = pa.py_buffer(np.ascontiguousarray(offsets[np.concatenate([[0], ends])]))
    joined: Any = pl.from_arrow(pa.LargeStringArray.from_buffers(len(lists), spans, data))
    return pl.select(pl.when(lists.is_not_null()).then(joined).alias(lists.name)).to_series()


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


def _ids(identity: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of all rows, and why a row's id is taken ("" where it is not).

    Rows without an id of their own that are equal get the ids of their occurrence numbers; of rows with the same own
    id the first is kept.
    """
    hi, lo = identity["digest_hi"].to_numpy().copy(), identity["digest_lo"].to_numpy().copy()
    content = identity["content"].to_numpy()
    taken = np.full(len(hi), "", dtype="U70")
    order = np.lexsort((np.arange(len(hi)), lo, hi))
    repeats = np.append(False, (hi[order][1:] == hi[order][:-1]) & (lo[order][1:] == lo[order][:-1]))[: len(hi)]
    if not repeats.any():
        return hi, lo, taken
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(hi))))
    occurrence = np.arange(len(hi)) - first
    rows, heads, numbers = order[repeats], order[first[repeats]], occurrence[repeats].astype(np.uint64)
    named = content[rows] != 0  # rows without an id of their own keep no digest of their content apart
    same = content[rows] == content[heads]
    taken[rows[named & same]] = "id: an earlier row has the same id and the same content"
    taken[rows[named & ~same]] = "id: an earlier row has the same id and other content"
    plain = rows[~named]
    hi[plain] = splitmix64(hi[plain] ^ numbers[~named])
    lo[plain] = splitmix64(lo[plain] + numbers[~named])
    return hi, lo, taken


def _taken_rows(parts: Sequence[Part], taken: np.ndarray) -> pl.DataFrame:
    """The rejections of rows whose id is taken; equal rows are no bad rows."""
    import polars as pl

    frames = [_joined_rejections([])]
    start = 0
    for path in _paths(parts):
        rows = read_frame(path).select("place", "file")
        reasons = pl.Series("reason", taken[start : start + rows.height], dtype=pl.String)
        start += rows.height
        found = rows.with_columns(reasons).filter(pl.col("reason") != "")
        frames.append(
            found.select("place", "reason", "file", pl.col("reason").str.ends_with("other content").alias("bad"))
        )
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
