"""Sums over the records of a dataset, read a column at a time.

Lengths are kept as counts of each length, so that five million examples cost no more room than the longest one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import records_path
from orca_recipes.shards.manifest import Manifest, ShardCounts
from orca_recipes.shards.proven_files import prove_files
from orca_recipes.shards.records import Records, read_columns
from orca_recipes.shards.text_columns import numbers

if TYPE_CHECKING:
    import pyarrow as pa

NAMED = ("strategy", "system_message", "teacher")
"""The columns whose values are told apart."""

_READ = ("row", *NAMED, "tokens", "trained_tokens")


@dataclass(frozen=True)
class Tally:
    """Number of examples in a group, with their tokens and trained tokens."""

    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0

    def plus(self, other: Tally) -> Tally:
        return Tally(
            self.examples + other.examples, self.tokens + other.tokens, self.trained_tokens + other.trained_tokens
        )


@dataclass
class DatasetTallies:
    """Counts over a dataset's records.

    by: column to value to what has it. lengths, trained_lengths: int64, at n the examples of n tokens, or with n that
    carry loss. row_tokens: at n the rows that hold n tokens. row_examples: at n the rows that hold n examples.
    """

    by: dict[str, dict[str, Tally]] = field(default_factory=lambda: {name: {} for name in NAMED})
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    trained_lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    row_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    row_examples: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def dataset_tallies(directory: Path, promised: Manifest, dataset: str, said: Callable[[int], None]) -> DatasetTallies:
    """Add up the records of a dataset, each file held against the manifest first.

    Args:
        said: is told of the examples of each shard that was read.
    Raises: DamagedShard.
    """
    total = DatasetTallies()
    for shard in promised.datasets[dataset].shards:
        path = records_path(Path(shard.prefix))
        prove_files(directory, promised, [path.as_posix()])
        _add(total, _records(directory / path, shard), shard.rows)
        said(shard.examples)
    return total


def _records(path: Path, shard: ShardCounts) -> Records:
    records = read_columns(path, _READ)
    if len(records.table) != shard.examples:
        raise damage(path, f"it has {len(records.table)} lines for {shard.examples} examples")
    return records


def _add(total: DatasetTallies, records: Records, rows: int) -> None:
    tokens, trained, row = (records.column(name) for name in ("tokens", "trained_tokens", "row"))
    total.lengths = _sum(total.lengths, np.bincount(tokens))
    total.trained_lengths = _sum(total.trained_lengths, np.bincount(trained))
    # Sums stay far below 2^53, up to which doubles are exact.
    held = np.bincount(row, weights=tokens, minlength=rows).astype(np.int64)
    total.row_tokens = _sum(total.row_tokens, np.bincount(held))
    total.row_examples = _sum(total.row_examples, np.bincount(np.bincount(row, minlength=rows)))
    for name in NAMED:
        values, codes = _coded(records.table[name].combine_chunks())
        size = len(values)
        sums = (np.bincount(codes, weights=column, minlength=size) for column in (tokens, trained))
        for value, *counts in zip(values, np.bincount(codes, minlength=size), *sums, strict=True):
            known = total.by[name].get(value, Tally())
            total.by[name][value] = known.plus(Tally(*map(int, counts)))


def _coded(column: Any) -> tuple[list[str], np.ndarray]:
    """Dictionary-encode a column: its distinct texts, and the index of each example's text, int64 [examples]."""
    import pyarrow as pa

    coded: pa.DictionaryArray = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return coded.dictionary.to_pylist(), numbers(coded.indices).astype(np.int64)


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    total = longer.astype(np.int64)
    total[: len(shorter)] += shorter
    return total
