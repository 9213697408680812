"""Verb `write`: rows become shards and their records.

Tokens are gathered from the unpacked pairs in row order, a block at a time, so that what leaves the store is one
sequential read a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.kinds import Writer
from orca_recipes.run.arrow import read_frame
from orca_recipes.run.pack import Unit
from orca_recipes.run.ragged import ragged
from orca_recipes.shards.layout import records_path, starts_example
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import records_schema, write_table

if TYPE_CHECKING:
    import polars as pl

BLOCK_TOKENS = 4 << 20


@dataclass(frozen=True)
class WriteTask:
    """One shard: its packed order, and the unpacked pairs its tokens stand in."""

    order: Path
    rows: Path
    units: tuple[Unit, ...]
    prefix: Path
    vocabulary_size: int
    writer: Writer


@dataclass(frozen=True)
class WrittenShard:
    """A shard's counts, by collection and task: (examples, tokens, trained tokens)."""

    name: str
    rows: int
    examples: int
    tokens: int
    trained_tokens: int
    tasks: dict[str, dict[str, tuple[int, int, int]]]


def write_shard(task: WriteTask) -> WrittenShard:
    """Write `<prefix>.bin`, `.idx` and `.records.parquet`."""
    order = read_frame(task.order)
    rows = read_frame(task.rows)["start"].to_numpy()
    pairs = [Shard.open(unit.prefix) for unit in task.units]
    unit, index, tokens = (order[name].to_numpy() for name in ("unit", "index", "tokens"))
    segments = _segments(pairs, unit, index, tokens)
    task.writer.write(
        prefix=task.prefix,
        vocabulary_size=task.vocabulary_size,
        blocks=_blocks(pairs, unit, index, tokens),
        segment_lengths=segments.lengths,
        segment_modes=segments.modes,
        row_starts=segments.example_starts[rows],
    )
    records = _records(order, rows, task.units)
    write_table(records_path(task.prefix), records.to_arrow().cast(records_schema()))
    return _summary(task.prefix.name, records, len(rows) - 1)


@dataclass(frozen=True)
class _Segments:
    lengths: np.ndarray
    modes: np.ndarray
    example_starts: np.ndarray


def _segments(pairs: Sequence[Shard], unit: np.ndarray, index: np.ndarray, tokens: np.ndarray) -> _Segments:
    """The segments of all examples in order, without what lies past a cut."""
    counts = np.empty(len(unit), dtype=np.int64)
    for number, pair in enumerate(pairs):
        mine = unit == number
        counts[mine] = np.diff(pair.segments.row_starts)[index[mine]]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    lengths = np.empty(int(starts[-1]), dtype=np.int64)
    modes = np.empty(int(starts[-1]), dtype=np.int8)
    for number, pair in enumerate(pairs):
        mine = np.flatnonzero(unit == number)
        source = ragged(pair.segments.row_starts[index[mine]], counts[mine])
        target = ragged(starts[mine], counts[mine])
        lengths[target] = pair.segments.lengths[source]
        modes[target] = pair.segments.modes[source]
    owner = np.repeat(np.arange(len(unit)), counts)
    ends = np.cumsum(lengths)
    begins = ends - lengths
    inside = begins - begins[starts[:-1]][owner]
    lengths = np.clip(tokens[owner] - inside, 0, lengths)
    kept = lengths > 0
    lengths, modes = lengths[kept], modes[kept]
    first = np.append(np.flatnonzero(starts_example(modes)), len(modes))
    return _Segments(lengths.astype(np.int32), modes, first.astype(np.int64))


def _blocks(pairs: Sequence[Shard], unit: np.ndarray, index: np.ndarray, tokens: np.ndarray) -> Iterator[np.ndarray]:
    ends = np.cumsum(tokens.astype(np.int64))
    start = 0
    while start < len(tokens):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK_TOKENS, side="right")))
        yield _gather(pairs, unit[start:stop], index[start:stop], tokens[start:stop].astype(np.int64))
        start = stop


def _gather(pairs: Sequence[Shard], unit: np.ndarray, index: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    targets = np.concatenate([[0], np.cumsum(tokens)])[:-1]
    block = np.empty(int(tokens.sum()), dtype=np.uint32)
    for number in np.unique(unit).tolist():
        mine = np.flatnonzero(unit == number)
        source = pairs[number].segments.token_starts[pairs[number].segments.row_starts[index[mine]]]
        block[ragged(targets[mine], tokens[mine])] = pairs[number].tokens[ragged(source, tokens[mine])]
    return block


def _records(order: pl.DataFrame, rows: np.ndarray, units: Sequence[Unit]) -> pl.DataFrame:
    """The records table, one line an example in row order."""
    import polars as pl

    names = ["task", "file", "place", "strategy", "system_message", "teacher"]
    unit, index, tokens = (order[name].to_numpy() for name in ("unit", "index", "tokens"))
    found, positions = [], []
    for number in np.unique(unit).tolist():
        mine = np.flatnonzero(unit == number)
        frame = read_frame(units[number].records, columns=names)[index[mine]]
        found.append(frame.with_columns(pl.lit(units[number].collection).alias("collection")))
        positions.append(mine)
    told = pl.concat(found)[np.argsort(np.concatenate(positions), kind="stable")]
    row = np.repeat(np.arange(len(rows) - 1), np.diff(rows))
    running = np.cumsum(tokens.astype(np.int64)) - tokens
    return told.with_columns(
        pl.col("place").alias("line"),
        pl.Series("row", row.astype(np.int32)),
        pl.Series("place", (running - running[rows[:-1]][row]).astype(np.int32)),
        hexadecimal(order["id_hi"], order["id_lo"]).alias("id"),
        order["tokens"],
        order["trained_tokens"],
        order["flags"],
        hexadecimal(order["text_hi"], order["text_lo"]).alias("text_digest"),
    ).select(records_schema().names)


def hexadecimal(high: pl.Series, low: pl.Series) -> pl.Series:
    """Ids or digests as people read them: two UInt64 [n] to String [n] of 32 hexadecimal digits."""
    import polars as pl

    halves = np.stack([high.to_numpy(), low.to_numpy()], axis=1).astype(">u8").tobytes()
    return pl.Series([halves[i : i + 16].hex() for i in range(0, len(halves), 16)], dtype=pl.String)


def _summary(name: str, records: pl.DataFrame, rows: int) -> WrittenShard:
    import polars as pl

    grouped = (
        records.group_by("collection", "task")
        .agg(
            pl.len().alias("examples"),
            pl.col("tokens").cast(pl.Int64).sum(),
            pl.col("trained_tokens").cast(pl.Int64).sum(),
        )
        .sort("collection", "task")
    )
    tasks: dict[str, dict[str, tuple[int, int, int]]] = {}
    for collection, task, examples, tokens, trained in grouped.iter_rows():
        tasks.setdefault(collection, {})[task] = (examples, tokens, trained)
    return WrittenShard(
        name=name,
        rows=rows,
        examples=records.height,
        tokens=int(records["tokens"].cast(pl.Int64).sum()),
        trained_tokens=int(records["trained_tokens"].cast(pl.Int64).sum()),
        tasks=tasks,
    )
