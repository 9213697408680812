"""One part of a collection: its slices are read, checked and stored as batches, on whatever worker is free.

A slice that an earlier stage has read of the same file with the same program is taken over from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Reading, Slice, Source
from orca_recipes.errors import SourceError
from orca_recipes.run.examples.identity import with_identity
from orca_recipes.run.examples.known_files import FILES, REJECTED, Given, Known, runs_of, write_given
from orca_recipes.run.examples.second_systems import merged_systems
from orca_recipes.run.examples.unfit_rows import SOUND, unfitness, without_questions_asked
from orca_recipes.run.work.blame import of_kind, unsound
from orca_recipes.run.work.limited import machine_bytes, within_memory
from orca_recipes.shards.show.visible import visible
from orca_recipes.store.arrow_files import write_frame, write_table
from orca_recipes.store.narrow_tables import narrow
from orca_recipes.store.source_digests import Pinned, unchanged
from orca_recipes.store.stage_folder import PartWriter

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BATCH_BYTES = 4 << 20
"""Text of one batch of examples, about: the unit of work of the stages that follow."""


@dataclass(frozen=True)
class ReadTask:
    """Read some slices of a collection into one part.

    pinned: the files that must not change meanwhile. known: what an earlier stage gave for each slice; empty for none.
    """

    name: str
    folder: Path
    collection: str
    source: Source
    slices: tuple[Slice, ...]
    pinned: tuple[Pinned, ...]
    known: tuple[Known | None, ...] = ()


def read_part(task: ReadTask) -> int:
    """Read, check and store one part; return how many of its rows an earlier stage had read.

    Raises: SourceError where a file changed while it was read; then nothing is kept of the part.
    """
    writer = PartWriter(task.folder, task.name)
    runs = list(runs_of(task.slices, task.known or [None] * len(task.slices)))
    taken = sum(known.rows for _, known in runs if known is not None)
    # Where all of a part is known and nothing else stands in it, its files are linked and not even read.
    if len(runs) == 1 and runs[0][1] is not None and runs[0][1].linked(writer):
        return taken
    part = _Reading(task)
    batches: list[dict[str, Any]] = []
    # Around all reading: a file that is written meanwhile would give rows under the digest of what it held before.
    with unchanged(task.pinned), within_memory(machine_bytes()):
        for table in _few(part.tables(runs)):
            suffix = f"-{len(batches):05d}.arrow"
            write_table(writer.path(suffix), table)
            batches.append({"suffix": suffix, "rows": table.num_rows})
    write_frame(writer.path(REJECTED), joined_rejections(part.rejected))
    write_given(writer.path(FILES), task.slices, {one.pin.name: one for one in task.pinned}, part.given)
    report = {
        "batches": batches,
        "rejected": sum(one.rejected for one in part.given),
        "passed_over": dict(sum((Counter(one.passed_over) for one in part.given), Counter())),
        "slices": len(task.slices),
    }
    writer.keep([*(batch["suffix"] for batch in batches), REJECTED, FILES], report)
    return taken


@dataclass
class _Reading:
    """The work on one part. rejected: rows, in their order. given: of each slice."""

    task: ReadTask
    rejected: list[pl.DataFrame] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)

    def tables(self, runs: Sequence[tuple[Sequence[Slice], Known | None]]) -> Iterator[pa.Table]:
        """Yield the rows of all slices as they are stored: taken over where they are known, else read."""
        for pieces, known in runs:
            if known is not None:
                yield from known.tables()
                self.rejected.append(known.rejections())
                self.given += known.given
                continue
            for frame in _gathered(frame for piece in pieces for frame in self._examples(piece)):
                yield narrow(with_identity(frame, self.task.collection))

    def _examples(self, piece: Slice) -> Iterator[pl.DataFrame]:
        import polars as pl

        task, count, first = self.task, 0, len(self.rejected)
        passed_over: Counter[str] = Counter()
        later = task.source.second_systems()
        file = pl.lit(piece.file.name if piece.file else None, dtype=pl.String).alias("file")
        for reading in _within_memory(task.source, piece, task.collection):
            passed_over.update(reading.passed_over)
            rows = completed(reading.rows, rows_schema()).with_columns(file, pl.col("task").fill_null(task.collection))
            if later == "merge":
                rows = merged_systems(rows)
            rows = without_questions_asked(rows)
            reasons = unfitness(rows, later_systems=later)
            strict = pl.lit(task.source.on_bad_row == "error")
            carried = ~pl.col("place").is_in(list(reading.not_carried))
            answered = ~pl.col("reason").is_in(SOUND)
            unfit = rows.select("place").with_columns(reasons.alias("reason")).filter(reasons.is_not_null())
            unread = completed(reading.rejected, rejected_rows_schema())
            for frame, bad in ((unread, strict | carried), (unfit, strict | answered)):
                # Most slices reject nothing, and thousands of empty frames would be joined at the end.
                self.rejected.extend([frame.with_columns(file, bad.alias("bad"))] if frame.height else [])
            # Filtering copies all rows: nearly always none is unfit.
            kept = rows.filter(reasons.is_null()) if unfit.height else rows
            count += kept.height
            yield kept
        self.given.append(Given(count, sum(frame.height for frame in self.rejected[first:]), passed_over))


def _within_memory(source: Source, piece: Slice, collection: str) -> Iterator[Reading]:
    """Yield what a source reads. Raises: SourceError where a file, which may be small, asks for all memory."""
    try:
        with of_kind(source):
            for reading in source.read(slice=piece):
                if not isinstance(reading, Reading):
                    raise unsound(source, f"reads a {type(reading).__name__}, and not a Reading")
                yield reading
    except MemoryError as fault:
        what = f"collection {collection}" if piece.file is None else visible(piece.file.name)
        raise SourceError(
            f"{what}: to read it takes more than the {machine_bytes() / (1 << 30):.3g} GiB of memory that this machine "
            "has for it; use another file"
        ) from fault


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


def _few(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join small pieces that were taken over with what stands beside them, where their columns are alike."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        # Half of a batch, since what follows may be as large again, and batches are the unit of work behind.
        if waiting and (table.schema != waiting[0].schema or sum(one.nbytes for one in waiting) >= BATCH_BYTES // 2):
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
        waiting.append(table)
    if waiting:
        yield waiting[0] if len(waiting) == 1 else pa.concat_tables(waiting).combine_chunks()


def joined_rejections(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Join tables of rejected rows, of which there may be none."""
    import polars as pl

    schema = {**rejected_rows_schema(), "file": pl.String, "bad": pl.Boolean}
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)
