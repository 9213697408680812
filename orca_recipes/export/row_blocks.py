"""A shard in blocks of whole rows: bounded memory, whatever the size of a shard.

A block is cut by its tokens alone, so that the same shard is always cut alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.exporter import RowBlock, Said
from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import records_path, tokens_path
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import read_records
from orca_recipes.shards.segments import Segments

if TYPE_CHECKING:
    import pyarrow as pa

# Bounds the memory of an export, however large a shard is; an exporter sees one row at least.
BLOCK_TOKENS = 1 << 20

Teller = Callable[[np.ndarray, Segments, "pa.Table"], list[Said]]
"""Tells examples as messages: their tokens, their segments and their records."""


def row_blocks(prefix: Path, *, vocabulary_size: int, teller: Callable[[], Teller]) -> Iterator[RowBlock]:
    """Read a shard once, block after block.

    Args:
        prefix: of a pair whose files have their promised digests.
        teller: gives who tells examples as messages, asked where an exporter wants them.
    Raises: DamagedShard.
    """
    shard = Shard.open(prefix)
    records = cache(lambda: _readable_records(records_path(prefix)))
    segments = shard.segments
    bounds = segments.token_starts[segments.row_starts]
    start = 0
    while start < segments.rows:
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + BLOCK_TOKENS, side="right")) - 1)
        block = _segments_of(segments, start, stop)
        tokens = _tokens_of(shard, start, stop, block)
        if len(tokens) and int(tokens.max()) >= vocabulary_size:
            raise damage(tokens_path(prefix), f"it holds a token outside the vocabulary of {vocabulary_size}")
        first, last = (int(at) for at in segments.row_examples[[start, stop]])
        lines = partial(_lines, records, first, last - first)
        yield RowBlock(tokens, block, lines, partial(_said, teller, tokens, block, lines))
        start = stop


def _readable_records(path: Path) -> pa.Table:
    found, faults = read_records(path)
    if found is None:
        raise damage(path, faults[0])
    return found.readable()


def _segments_of(segments: Segments, start: int, stop: int) -> Segments:
    first, last = (int(at) for at in segments.row_starts[[start, stop]])
    row_starts = segments.row_starts[start : stop + 1] - first
    return Segments(segments.lengths[first:last], segments.modes[first:last], row_starts)


def _tokens_of(shard: Shard, start: int, stop: int, block: Segments) -> np.ndarray:
    """Gather the tokens of rows from the offsets in the index, consecutive or not."""
    first, last = (int(at) for at in shard.segments.row_starts[[start, stop]])
    begins = shard.offsets[first:last] // shard.dtype.itemsize
    if np.array_equal(begins[1:], begins[:-1] + block.lengths[:-1]):
        return shard.tokens[begins[0] : begins[0] + block.token_starts[-1]]
    shifts = begins - block.token_starts[:-1]
    return np.asarray(shard.tokens[np.arange(block.token_starts[-1]) + np.repeat(shifts, block.lengths)])


def _lines(records: Callable[[], pa.Table], first: int, count: int) -> pa.Table:
    return records().slice(first, count)


def _said(
    teller: Callable[[], Teller], tokens: np.ndarray, segments: Segments, lines: Callable[[], pa.Table]
) -> list[Said]:
    return teller()(tokens, segments, lines())
