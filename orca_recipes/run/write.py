"""Verb `write`: rows become shards and their records.

Tokens are gathered from the unpacked pairs in row order, a block at a time, so that what leaves the store is one
sequential read a row. A shard is two tasks, tokens and records, and whoever writes a file takes its digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orca_recipes.contract.kinds import Writer
from orca_recipes.run.arrow import one_piece, read_table, string_buffers
from orca_recipes.run.pack import Unit, places_of
from orca_recipes.run.ragged import ragged
from orca_recipes.run.tell import records_of
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.layout import index_path, records_path, starts_example, tokens_path
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import Records, write_table
from orca_recipes.shards.segments import Segments
from orca_recipes.shards.table_digest import content_digest_of
from orca_recipes.shards.text_columns import numbers

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BLOCK_TOKENS = 4 << 20


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
    """What one task wrote.

    digests: of the files, by path; content_digests: of the tables among them. shard: the counts, told with the records.
    """

    digests: dict[Path, str]
    content_digests: dict[Path, str]
    shard: WrittenShard | None


def write_half(task: WriteTask) -> Written:
    """Write `<prefix>.bin` and `.idx`, or `<prefix>.records.parquet`: the two need nothing of each other."""
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
    tokens = numbers(one_piece(order["tokens"]))
    places = places_of(order, pairs.rows)
    segments = _segments(pairs.segments, places, tokens)
    return task.writer.write(
        prefix=task.prefix,
        vocabulary_size=task.vocabulary_size,
        blocks=_blocks(pairs, places, tokens),
        segment_lengths=segments.lengths,
        segment_modes=segments.modes,
        row_starts=segments.example_starts[rows],
    )


@dataclass(frozen=True)
class _Pairs:
    """The unpacked pairs of a dataset, one after the other.

    rows: of each pair. segments: of all. stored: Binary [examples], the tokens of every example; nothing is copied.
    """

    rows: Sequence[int]
    dtype: np.dtype[Any]
    segments: Segments
    stored: pl.Series


@lru_cache(maxsize=1)
def _opened(prefixes: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> _Pairs:
    """Opened and checked once a process, whatever the number of shards: each shard takes rows of nearly all pairs.

    Args:
        stamps: of the files, because a pair that is made again has the name of the one before.
    """
    pairs = [Shard.open(prefix) for prefix in prefixes]
    return _Pairs(
        [pair.rows for pair in pairs], pairs[0].dtype, _joined([pair.segments for pair in pairs]), _stored(pairs)
    )


def _stamps(units: Sequence[Unit]) -> tuple[tuple[int, int], ...]:
    files = [path for unit in units for path in (tokens_path(unit.prefix), index_path(unit.prefix))]
    return tuple((status.st_ino, status.st_mtime_ns) for status in map(Path.stat, files))


@dataclass(frozen=True)
class _Segments:
    lengths: np.ndarray
    modes: np.ndarray
    example_starts: np.ndarray


def _segments(stored: Segments, places: np.ndarray, tokens: np.ndarray) -> _Segments:
    """The segments of a shard's examples in order, without what lies past a cut.

    Args:
        places: int64 [examples], counted over all pairs. tokens: int32 [examples].
    """
    counts = np.diff(stored.row_starts)[places]
    starts = np.concatenate([[0], np.cumsum(counts)])
    source = ragged(stored.row_starts[places], counts)
    lengths, modes = stored.lengths[source], stored.modes[source]
    held = np.add.reduceat(lengths, starts[:-1]) if len(tokens) else tokens
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


def _joined(segments: Sequence[Segments]) -> Segments:
    """The segments of all pairs, one pair after the other."""
    firsts = np.cumsum([0, *(len(part.lengths) for part in segments)])
    starts = [part.row_starts[:-1] + first for part, first in zip(segments, firsts[:-1], strict=True)]
    return Segments(
        lengths=np.concatenate([part.lengths for part in segments]),
        modes=np.concatenate([part.modes for part in segments]),
        row_starts=np.concatenate([*starts, firsts[-1:]]),
    )


def _blocks(pairs: _Pairs, places: np.ndarray, tokens: np.ndarray) -> Iterator[np.ndarray]:
    ends = np.cumsum(tokens, dtype=np.int64)
    start = 0
    while start < len(tokens):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK_TOKENS, side="right")))
        yield _gathered(pairs.stored, places[start:stop], tokens[start:stop], pairs.dtype)
        start = stop


def _stored(pairs: Sequence[Shard]) -> pl.Series:
    """The tokens of every example as bytes, pair after pair; nothing is copied.

    A column of polars, because Arrow gathers long values from many pieces three times slower.
    """
    import polars as pl
    import pyarrow as pa

    def column(pair: Shard) -> pl.Series:
        # Not `token_starts`, which a pair keeps: eight bytes for each segment of the whole dataset.
        starts = np.append(0, np.cumsum(pair.segments.lengths, dtype=np.int64))
        bounds = starts[pair.segments.row_starts] * pair.dtype.itemsize
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(pair.tokens)]
        return pl.Series(pa.LargeBinaryArray.from_buffers(pa.large_binary(), pair.rows, buffers))

    return pl.concat([column(pair) for pair in pairs if pair.rows], rechunk=False)


def _gathered(stored: pl.Series, places: np.ndarray, tokens: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The first tokens of the examples at some places, one after the other."""
    offsets, data = string_buffers(stored.gather(places).rechunk().to_arrow())
    block = np.frombuffer(data, dtype=dtype)[offsets[0] // dtype.itemsize : offsets[-1] // dtype.itemsize]
    held = np.diff(offsets) // dtype.itemsize
    if np.array_equal(held, tokens):
        return block
    kept = np.tile([True, False], len(tokens))
    return np.asarray(block[np.repeat(kept, np.stack([tokens, held - tokens], axis=1).ravel())])


def _summary(name: str, table: pa.Table, rows: int) -> WrittenShard:
    tasks: dict[str, dict[str, tuple[int, int, int]]] = {}
    for (collection, task), counts in sorted(Records(table, None).counts().items()):
        tasks.setdefault(collection, {})[task] = counts
    examples, tokens, trained_tokens = (
        sum(counts[part] for found in tasks.values() for counts in found.values()) for part in range(3)
    )
    return WrittenShard(name, rows, examples, tokens, trained_tokens, tasks)
