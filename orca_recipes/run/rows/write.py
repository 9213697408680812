"""Verb `write`: rows become shards and their records.

Tokens are gathered from the unpacked pairs into row order, so that what a trainer reads is one sequential read a row;
each pair is read from front to back, and only a band of tokens is held meanwhile. A shard is two tasks, tokens and
records, and whoever writes a file takes its digest.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from orca_recipes.contract.kinds import Writer
from orca_recipes.run.rows.example_records import records_of
from orca_recipes.run.rows.unit_places import Places
from orca_recipes.run.rows.units import Unit
from orca_recipes.run.segments.ragged import gathered_rows, ragged
from orca_recipes.run.work.blame import of_kind
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.files import map_file
from orca_recipes.shards.layout import records_path, starts_example, tokens_path
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import Records, write_table
from orca_recipes.shards.segments import Segments
from orca_recipes.shards.table_digest import content_digest_of
from orca_recipes.shards.text_columns import numbers
from orca_recipes.store.arrow_files import indices, one_piece, read_table, string_buffers

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BAND_TOKENS = 1 << 27
"""Tokens that are read together from all units and held until they are written: a quarter or half of a GiB."""
BLOCK_TOKENS = 1 << 20
"""Tokens that are gathered, looked at and written together: few enough to stay in a processor's cache meanwhile."""


@dataclass(frozen=True)
class WriteTask:
    """One shard, or one of its two halves: its packed order, and the unpacked pairs its tokens stand in."""

    order: Path
    rows: Path
    units: tuple[Unit, ...]
    prefix: Path
    vocabulary_size: int
    writer: Writer
    half: Literal["tokens", "records"]


@dataclass(frozen=True)
class WrittenShard:
    """A shard's counts, by collection and task: (examples, tokens, trained tokens)."""

    name: str
    rows: int
    examples: int
    tokens: int
    trained_tokens: int
    tasks: dict[str, dict[str, tuple[int, int, int]]]


@dataclass(frozen=True)
class Written:
    """Files written by one task, with their digests.

    digests: of the files, by path; content_digests: of the tables among them. shard: the counts, told with the records.
    """

    digests: dict[Path, str]
    content_digests: dict[Path, str]
    shard: WrittenShard | None


def write_half(task: WriteTask) -> Written:
    """Write `<prefix>.bin` and `.idx`, or `<prefix>.records.parquet`; both halves may be written at once.

    Files get their names when they are whole: two workers may be at one half, where one was taken for dead.
    """
    # A random name beside, since two workers at one half would write into each other's file.
    aside = task.prefix.with_name(f".{secrets.token_hex(6)}.{task.prefix.name}")
    written = _written(replace(task, prefix=aside))
    names = {path: path.with_name(path.name.replace(aside.name, task.prefix.name, 1)) for path in written.digests}
    for path, name in names.items():
        os.replace(path, name)
    return Written(
        {names[path]: digest for path, digest in written.digests.items()},
        {names[path]: digest for path, digest in written.content_digests.items()},
        None if written.shard is None else replace(written.shard, name=task.prefix.name),
    )


def _written(task: WriteTask) -> Written:
    order = read_table(task.order)
    rows = numbers(one_piece(read_table(task.rows)["start"]))
    if task.half == "tokens":
        paths = _write_tokens(task, order, rows)
        return Written({path: file_digest(path) for path in paths}, {}, None)
    table = records_of(order, rows, task.units)
    path = records_path(task.prefix)
    write_table(path, table)
    # The digest is of what was meant: a file that does not hold it is found by whoever verifies.
    content = content_digest_of(table, path)
    return Written({path: file_digest(path)}, {path: content}, _summary(task.prefix.name, table, len(rows) - 1))


def _write_tokens(task: WriteTask, order: pa.Table, rows: np.ndarray) -> Sequence[Path]:
    pairs = _opened(tuple(unit.prefix for unit in task.units), _stamps(task.units))
    places, tokens = Places.of(order), numbers(one_piece(order["tokens"]))
    segments = _segments(pairs, places, tokens)
    with of_kind(task.writer):
        return tuple(
            task.writer.write(
                prefix=task.prefix,
                vocabulary_size=task.vocabulary_size,
                blocks=_blocks(pairs, places, order),
                segment_lengths=segments.lengths,
                segment_modes=segments.modes,
                row_starts=segments.example_starts[rows],
            )
        )


@lru_cache(maxsize=1)
def _opened(prefixes: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> tuple[Shard, ...]:
    """Open and check it once a process, whatever the number of shards: each shard takes rows of nearly all pairs.

    Args:
        stamps: of the files, because a pair that is made again has the name of the one before.
    """
    return tuple(Shard.open(prefix) for prefix in prefixes)


def _stamps(units: Sequence[Unit]) -> tuple[tuple[int, int], ...]:
    files = [path for unit in units for path in unit.shard_files()]
    return tuple((status.st_ino, status.st_mtime_ns) for status in map(Path.stat, files))


@dataclass(frozen=True)
class _Segments:
    lengths: np.ndarray
    modes: np.ndarray
    example_starts: np.ndarray


def _segments(pairs: Sequence[Shard], places: Places, tokens: np.ndarray) -> _Segments:
    """Gather the segments of a shard's examples in order, without tokens past a cut. tokens: int32 [examples]."""
    stored = _stored_segments(pairs, places)
    counts = np.diff(stored.row_starts)[places.rank]
    starts = np.concatenate([[0], np.cumsum(counts)])
    lengths, modes = (
        gathered_rows(column, stored.row_starts, places.rank) for column in (stored.lengths, stored.modes)
    )
    held = np.add.reduceat(lengths, starts[:-1]) if len(tokens) else tokens
    # Nearly always nothing was cut, and then nothing need be computed token by token.
    if np.array_equal(held, tokens):
        return _Segments(lengths, modes, starts)
    owner = np.repeat(np.arange(len(tokens)), counts)
    ends = np.cumsum(lengths, dtype=np.int64)
    begins = ends - lengths
    inside = begins - begins[starts[:-1]][owner]
    lengths = np.clip(tokens[owner] - inside, 0, lengths).astype(np.int32)
    kept = lengths > 0
    lengths, modes = lengths[kept], modes[kept]
    return _Segments(lengths, modes, np.append(np.flatnonzero(starts_example(modes)), len(modes)))


def _stored_segments(pairs: Sequence[Shard], places: Places) -> Segments:
    """Gather the segments of a shard's examples in the order of units."""
    lengths, modes, counts = [], [], []
    for unit, rows in places.by_unit():
        held = pairs[unit].segments
        starts = held.row_starts[rows]
        counts.append(held.row_starts[rows + 1] - starts)
        source = ragged(starts, counts[-1])
        lengths.append(held.lengths[source])
        modes.append(held.modes[source])
    row_starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return Segments(np.concatenate(lengths), np.concatenate(modes), row_starts)


def _blocks(pairs: Sequence[Shard], places: Places, order: pa.Table) -> Iterator[np.ndarray]:
    """Yield the tokens of a shard, band after band, each in blocks."""
    tokens = numbers(one_piece(order["tokens"]))
    for start, stop in _spans(tokens, BAND_TOKENS):
        band = places if stop - start == len(tokens) else Places.of(order.slice(start, stop - start))
        stored = _stored(pairs, band)
        for first, last in _spans(tokens[start:stop], BLOCK_TOKENS):
            yield _gathered(stored, band.rank[first:last], tokens[start + first : start + last], pairs[0].dtype)


def _spans(tokens: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Yield spans of consecutive examples with at most so many tokens in all; a larger example is a span alone."""
    ends = np.cumsum(tokens, dtype=np.int64)
    start = 0
    while start < len(tokens):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield start, stop
        start = stop


def _stored(pairs: Sequence[Shard], places: Places) -> pl.Series:
    """Read the tokens of some examples as bytes, in the order of units.

    Each unit is read from front to back and let go of: what stays mapped counts as this process' memory, and a dataset
    that is larger than the machine's would be read from the disk again and again. A column of polars, because Arrow
    gathers long values from many pieces three times slower.
    """
    import polars as pl

    return pl.concat([pl.Series(_taken(pairs[unit], rows)) for unit, rows in places.by_unit()], rechunk=False)


def _taken(pair: Shard, rows: np.ndarray) -> pa.LargeBinaryArray:
    """Take the tokens of some rows of a pair, given rising, as bytes."""
    import pyarrow as pa

    held, last = pair.segments, pair.segments.row_starts[rows + 1] - 1
    bounds = np.empty(2 * len(rows) + 1, dtype=np.int64)
    bounds[:-1:2] = pair.offsets[held.row_starts[rows]]
    bounds[1::2] = pair.offsets[last] + held.lengths[last].astype(np.int64) * pair.dtype.itemsize
    # Behind the last row there is no gap: an empty one.
    bounds[-1] = bounds[-2]
    # Gaps between rows become entries of their own: one zero-copy array of (row, gap, row, ...), every second is taken.
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(map_file(tokens_path(pair.prefix)))]
    both = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2 * len(rows), buffers)
    return cast("pa.LargeBinaryArray", both.take(indices(np.arange(0, 2 * len(rows), 2))))


def _gathered(stored: pl.Series, places: np.ndarray, tokens: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Join the first `tokens` tokens of the examples at some places."""
    offsets, data = string_buffers(stored.gather(places).rechunk().to_arrow())
    block = np.frombuffer(data, dtype=dtype)[offsets[0] // dtype.itemsize : offsets[-1] // dtype.itemsize]
    held = np.diff(offsets) // dtype.itemsize
    if np.array_equal(held, tokens):
        return block
    kept = np.tile([True, False], len(tokens))
    return np.asarray(block[np.repeat(kept, np.stack([tokens, held - tokens], axis=1).ravel())])


def _summary(name: str, table: pa.Table, rows: int) -> WrittenShard:
    tasks: dict[str, dict[str, tuple[int, int, int]]] = {}
    for (collection, task), counts in sorted(Records(table).counts().items()):
        tasks.setdefault(collection, {})[task] = counts
    examples, tokens, trained_tokens = (
        sum(counts[part] for found in tasks.values() for counts in found.values()) for part in range(3)
    )
    return WrittenShard(name, rows, examples, tokens, trained_tokens, tasks)
