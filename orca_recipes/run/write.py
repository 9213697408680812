"""Verb `write`: rows become shards and their records.

Tokens are gathered from the unpacked pairs in row order, a block at a time, so that what leaves the store is one
sequential read a row. A shard is two tasks, tokens and records, and whoever writes a file takes its digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orca_recipes.contract.kinds import Writer
from orca_recipes.run.arrow import read_frame, string_buffers
from orca_recipes.run.pack import Unit
from orca_recipes.run.ragged import ragged
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.layout import records_path, starts_example
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import records_schema, write_table
from orca_recipes.shards.table_digest import content_digest_of_table

if TYPE_CHECKING:
    import polars as pl

BLOCK_TOKENS = 4 << 20

_DIGITS = np.frombuffer(bytes(range(256)).hex().encode(), dtype=np.uint16)
"""The two hexadecimal digits of each byte."""


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
    order = read_frame(task.order)
    rows = read_frame(task.rows)["start"].to_numpy()
    if task.half == "tokens":
        paths = _write_tokens(task, order, rows)
        return Written({path: file_digest(path) for path in paths}, {}, None)
    records = _records(order, rows, task.units)
    path = records_path(task.prefix)
    write_table(path, records.to_arrow().cast(records_schema()))
    shard = _summary(task.prefix.name, records, len(rows) - 1)
    return Written({path: file_digest(path)}, {path: content_digest_of_table(path)}, shard)


def _write_tokens(task: WriteTask, order: pl.DataFrame, rows: np.ndarray) -> Sequence[Path]:
    pairs = [Shard.open(unit.prefix) for unit in task.units]
    unit, index, tokens = (order[name].to_numpy() for name in ("unit", "index", "tokens"))
    segments = _segments(pairs, unit, index, tokens)
    return task.writer.write(
        prefix=task.prefix,
        vocabulary_size=task.vocabulary_size,
        blocks=_blocks(pairs, unit, index, tokens),
        segment_lengths=segments.lengths,
        segment_modes=segments.modes,
        row_starts=segments.example_starts[rows],
    )


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
    stored = _stored(pairs)
    firsts = np.concatenate([[0], np.cumsum([pair.rows for pair in pairs])])
    places = firsts[unit] + index
    ends = np.cumsum(tokens.astype(np.int64))
    start = 0
    while start < len(tokens):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK_TOKENS, side="right")))
        yield _gathered(stored, places[start:stop], tokens[start:stop].astype(np.int64), pairs[0].dtype)
        start = stop


def _stored(pairs: Sequence[Shard]) -> pl.Series:
    """The tokens of every example as bytes, pair after pair; nothing is copied."""
    import polars as pl
    import pyarrow as pa

    def column(pair: Shard) -> pl.Series:
        bounds = pair.segments.token_starts[pair.segments.row_starts] * pair.dtype.itemsize
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(pair.tokens)]
        return pl.Series(pa.LargeBinaryArray.from_buffers(pa.large_binary(), pair.rows, buffers))

    return pl.concat([column(pair) for pair in pairs if pair.rows], rechunk=False)


def _gathered(stored: pl.Series, places: np.ndarray, tokens: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The first tokens of the examples at some places, one after the other."""
    chosen = stored.gather(places).rechunk().to_arrow()
    offsets, data = string_buffers(chosen)
    block = np.frombuffer(data, dtype=dtype)[offsets[0] // dtype.itemsize : offsets[-1] // dtype.itemsize]
    held = np.diff(offsets) // dtype.itemsize
    if np.array_equal(held, tokens):
        return block
    kept = np.tile([True, False], len(tokens))
    return np.asarray(block[np.repeat(kept, np.stack([tokens, held - tokens], axis=1).ravel())])


def _records(order: pl.DataFrame, rows: np.ndarray, units: Sequence[Unit]) -> pl.DataFrame:
    """The records table, one line an example in row order."""
    import polars as pl

    names = [
        "task",
        "file",
        "place",
        "strategy",
        "system_message",
        "teacher",
        "question_hi",
        "question_lo",
        "teacher_view",
        "kept_question_hi",
        "kept_question_lo",
    ]
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
        _where_known(told["question_hi"], told["question_lo"]).alias("question_digest"),
        _kept_question_digest(told),
    ).select(records_schema().names)


def _kept_question_digest(told: pl.DataFrame) -> pl.Series:
    import polars as pl

    erased = told["teacher_view"].is_not_null()
    if not erased.any():
        return pl.Series("kept_question_digest", [None] * told.height, dtype=pl.String)
    digest = hexadecimal(told["kept_question_hi"], told["kept_question_lo"])
    return pl.select(pl.when(erased).then(digest).alias("kept_question_digest")).to_series()


def hexadecimal(high: pl.Series, low: pl.Series) -> pl.Series:
    """Ids or digests as people read them: two UInt64 [n] to String [n] of 32 hexadecimal digits."""
    import polars as pl
    import pyarrow as pa

    halves = np.stack([high.to_numpy(), low.to_numpy()], axis=1).astype(">u8").view(np.uint8)
    data = pa.py_buffer(np.ascontiguousarray(_DIGITS[halves.ravel()]))
    bounds = pa.py_buffer(np.arange(len(high) + 1, dtype=np.int64) * 32)
    return pl.Series(pa.LargeStringArray.from_buffers(len(high), bounds, data))


def _where_known(high: pl.Series, low: pl.Series) -> pl.Series:
    """The same where there are digests, and null where there are none."""
    import polars as pl

    if high.null_count() == len(high):
        return pl.Series([None] * len(high), dtype=pl.String)
    text = hexadecimal(high.fill_null(0), low.fill_null(0))
    return pl.DataFrame({"high": high, "text": text}).select(t=pl.when(pl.col("high").is_not_null()).then("text"))["t"]


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
