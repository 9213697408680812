"""Verb `read`: a collection's files become examples with ids.

Parts are read on their own; identity needs all of them, because equal rows are numbered among each other and one
explicit id must not stand on two contents. So a part keeps the digest of each row's identity, and `index_examples`
turns digests into ids once all parts are there. It holds nothing of a row that stands once: digests stay in the
mapped files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.kinds import Slice, Source
from orca_recipes.counted import counted
from orca_recipes.errors import SourceError
from orca_recipes.run.examples.identity import CONTRADICTED, FREE, TAKEN, Digests, Repeats, repeats_of
from orca_recipes.run.examples.known_files import REJECTED, earlier_readers, known_slices, reader_of
from orca_recipes.run.examples.read_part import ReadTask, joined_rejections, read_part
from orca_recipes.run.examples.unfound_columns import refuse_unfound
from orca_recipes.run.work.account import count_reasons
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.blame import of_kind, placed
from orca_recipes.run.work.workers import SLICE_BYTES
from orca_recipes.shards.text_columns import numbers
from orca_recipes.store.arrow_files import IDS, column_of, indices, one_piece, read_frame, read_table, write_frame
from orca_recipes.store.source_digests import FileDigests, Pinned, changed, pinned_as, unchanged
from orca_recipes.store.stage_folder import Part, PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_BY_CONTENT = "leave `id` out of `columns`, so that rows are known by their content"
"""What to do where a file's ids are none: its rows need no mending."""
# A batch of ids is held and copied once: this bounds the memory for collections of any size.
_IDS_AT_ONCE = 1 << 19


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `read` of a collection."""
    with placed(f"collections.{subject}"):
        _read_all(bench, folder, subject)


def _read_all(bench: Bench, folder: StageFolder, collection: str) -> None:
    source = bench.recipe.collections[collection]
    pinned = _pinned(bench, collection, source)
    tasks = read_tasks(source, collection=collection, folder=folder.path, slice_bytes=SLICE_BYTES, pinned=pinned)
    stage = bench.plan[f"read {collection}"]
    reader = reader_of(stage, [pinned[name] for name in sorted(_everywhere(pinned, tasks))])
    earlier = earlier_readers(bench.store.earlier(stage), reader)
    bench.store.hold(earlier, bench.progress.say)
    tasks = _knowing(tasks, pinned, earlier)
    sizes = [sum(piece.stop - piece.start for piece in task.slices) for task in tasks]
    taken = bench.map_parts(folder, stage.name, read_part, tasks, sizes, "B")
    bench.found[stage.name] += sum(taken)
    names = [task.name for task in tasks]
    report = index_examples(folder, names, collection=collection, source=source)
    unused = source.unused_columns()
    if unfound := source.unfound_columns():
        tables = [read_table(path) for path in _paths(list(map(folder.part, names)))]
        refuse_unfound(tables, unfound, unused, collection=collection)
    # A key of a JSON row may hold half a character, which no file of ours can.
    report["unused_columns"] = [name.encode("utf-8", "backslashreplace").decode("utf-8") for name in unused]
    report["reader"] = reader
    # Once more behind the reading: the stage's fingerprint is of the files as they were pinned, whatever lies there
    # now.
    _pinned(bench, collection, source.afresh())
    folder.finish([*names, IDS], report)
    bench.end(report, "example")


def _pinned(bench: Bench, collection: str, source: Source) -> Mapping[str, Pinned]:
    """Check that a collection's files are those the plan was made of, and return their pins."""
    digests = FileDigests(bench.store.root / "digests.sqlite")
    planned = dict(bench.plan[f"read {collection}"].decisive["pin"]["files"])
    return pinned_as(digests.stamped(source.files(), planned), planned)


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
    with unchanged(pinned.values()), of_kind(source):
        slices = source.slices(slice_bytes=slice_bytes)
        new = next((piece.file for piece in slices if piece.file and piece.file.name not in pinned), None)
    if new is not None:
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


def index_examples(folder: StageFolder, names: Sequence[str], *, collection: str, source: Source) -> dict[str, Any]:
    """Give every example its id, reject those whose id is taken, and count: the report of the stage.

    Raises: SourceError where more rows are bad than the source allows.
    """
    import polars as pl

    parts = [folder.part(name) for name in names]
    tables = [read_table(path) for path in _paths(parts)]
    digests = [_digests(table) for table in tables]
    repeats = repeats_of(digests)
    total, lost = sum(len(hi) for hi, _, _ in digests), int((repeats.taken != FREE).sum())
    lost_rows, tasks = _lost(tables, repeats)
    rejected = pl.concat([read_frame(part.file(REJECTED)) for part in parts] + [lost_rows])
    _refuse_many_bad_rows(rejected, total, collection, source)
    writer = PartWriter(folder.path, IDS)
    _write_ids(writer.path(".arrow"), digests, repeats)
    write_frame(writer.path(REJECTED), rejected)
    writer.keep([".arrow", REJECTED], {})
    return {
        "in": total + sum(part.report["rejected"] for part in parts),
        "out": total - lost,
        "rejected": count_reasons(rejected["reason"]),
        "passed_over": dict(sorted(sum((Counter(part.report["passed_over"]) for part in parts), Counter()).items())),
        "tasks": dict(sorted(tasks.items())),
    }


def batches_of(folder: StageFolder) -> list[Batch]:
    """List the batches of a finished `read` stage, in the order of its ids."""
    found, start = [], 0
    for part in folder.parts():
        for batch in part.report.get("batches", ()):
            found.append(Batch(part.path(batch["suffix"]), start, start + batch["rows"]))
            start += batch["rows"]
    return found


def _everywhere(pinned: Mapping[str, Pinned], tasks: Sequence[ReadTask]) -> set[str]:
    """Return the files not named by any slice."""
    return set(pinned) - {piece.file.name for task in tasks for piece in task.slices if piece.file}


def _knowing(tasks: Sequence[ReadTask], pinned: Mapping[str, Pinned], earlier: Sequence[StageFolder]) -> list[ReadTask]:
    """Give tasks what earlier stages gave for their slices."""
    known = known_slices([piece for task in tasks for piece in task.slices], pinned, earlier)
    ends = list(accumulate(len(task.slices) for task in tasks))
    return [
        replace(task, known=tuple(known[stop - len(task.slices) : stop]))
        for task, stop in zip(tasks, ends, strict=True)
    ]


def _digests(table: pa.Table) -> Digests:
    hi, lo, content = (numbers(one_piece(table[name])) for name in ("digest_hi", "digest_lo", "content"))
    return hi, lo, content


def _lost(tables: Sequence[pa.Table], repeats: Repeats) -> tuple[pl.DataFrame, Counter[str]]:
    """List the rejections of rows whose id is taken, and count the tasks of all others. Rows that repeat an id and its
    content are no bad rows."""
    import polars as pl

    frames, tasks = [joined_rejections([])], Counter[str]()
    lost = np.flatnonzero(repeats.taken != FREE)
    starts = np.cumsum([0, *(table.num_rows for table in tables)])
    bounds = np.searchsorted(repeats.rows[lost], starts)
    for number, table in enumerate(tables):
        tasks.update(_counted(table["task"]))
        here = lost[bounds[number] : bounds[number + 1]]
        if not len(here):
            continue
        rows = table.select(["place", "file", "task"]).take(indices(repeats.rows[here] - starts[number]))
        tasks.subtract(_counted(rows["task"]))
        reasons = repeats.taken[here]
        named = pl.Series("reason", TAKEN, dtype=pl.String).gather(reasons)
        bad = pl.Series("bad", reasons == CONTRADICTED)
        frame = pl.DataFrame(rows).with_columns(named, bad)
        frames.append(frame.select("place", "reason", "file", "bad"))
    # + drops the tasks that have no row left.
    return pl.concat(frames), +tasks


def _counted(texts: pa.ChunkedArray[Any]) -> dict[str, int]:
    return {found["values"]: found["counts"] for found in texts.value_counts().to_pylist()}


def _write_ids(path: Path, digests: Sequence[Digests], repeats: Repeats) -> None:
    """Write the ids of all rows and whether each row is kept, some hundred thousand rows at a time.

    No batch is cut in two: whoever looks at one finds it in one piece.
    """
    import pyarrow as pa

    schema = pa.schema([("id_hi", pa.uint64()), ("id_lo", pa.uint64()), ("keep", pa.bool_())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        start = 0
        for hi, lo in _joined_digests(digests):
            first, stop = np.searchsorted(repeats.rows, [start, start + len(hi)])
            rows, keep = repeats.rows[first:stop] - start, np.ones(len(hi), dtype=np.bool_)
            hi[rows], lo[rows] = repeats.id_hi[first:stop], repeats.id_lo[first:stop]
            keep[rows] = repeats.taken[first:stop] == FREE
            writer.write_batch(pa.record_batch([column_of(hi), column_of(lo), pa.array(keep)], schema=schema))
            start += len(hi)


def _joined_digests(digests: Sequence[Digests]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the digests of several batches at a time, high and low, copied."""
    waiting: list[Digests] = []
    for number, batch in enumerate(digests, 1):
        waiting.append(batch)
        if number == len(digests) or sum(len(hi) for hi, _, _ in waiting) >= _IDS_AT_ONCE:
            yield np.concatenate([hi for hi, _, _ in waiting]), np.concatenate([lo for _, lo, _ in waiting])
            waiting = []


def _paths(parts: Sequence[Part]) -> list[Path]:
    return [part.path(batch["suffix"]) for part in parts for batch in part.report["batches"]]


def _refuse_many_bad_rows(rejected: pl.DataFrame, others: int, collection: str, source: Source) -> None:
    import polars as pl

    bad = rejected.filter(pl.col("bad"))
    rows = others + rejected.filter(~pl.col("reason").str.starts_with("id: an earlier row")).height
    allowed = {"reject": rows, "error": 0, None: rows // 100}[source.on_bad_row]
    if bad.height <= allowed:
        return
    file, place, reason = bad.sort("file", "place").select("file", "place", "reason").row(0)
    share = "" if source.on_bad_row else " (more than one in a hundred)"
    mend = _BY_CONTENT if reason == TAKEN[CONTRADICTED] else "mend the rows"
    raise SourceError(
        f"collections.{collection}: {bad.height:,} of {counted(rows, 'row')} cannot be used{share}, "
        f"the first at {file or 'row'}:{place}: "
        f'{reason}; {mend}, or set on_bad_row = "reject" to go on without them'
    )
