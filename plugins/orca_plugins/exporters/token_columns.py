"""Shared parts of token exporters: columns of ids and labels, and Parquet files with the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.exporter import (
    BuildToExport,
    DatasetToExport,
    RowBlock,
    Said,
    ShardToExport,
    Written,
    list_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 1 << 16
"""Lines of a row group, at most: readers of examples go through a file from its start."""
_BATCH_VALUES = 1 << 16
"""Values that pyarrow takes at once: with its default of 1,024 (26.0.1) a third of the time goes into handing over."""
IGNORED = -100
"""The label of a token that carries no loss, for torch and all trainers on top of it."""
TRL_MAX_LENGTH = 1024
"""TRL's `max_length` (1.16.0), where nobody sets it."""
TRAINED_TOO = "tokens trained that are no labels"
JOINED = "examples joined to the one before"
DROPPED = "labels dropped with their examples"
CUT_OFF = "labels cut off"


def ids_of(block: RowBlock, bounds: np.ndarray) -> pa.ListArray[Any]:
    """Return list<int32>: the tokens of examples, or of rows, whose bounds these are."""
    import pyarrow as pa

    return list_of(block.tokens, bounds, pa.int32())


def labels_of(block: RowBlock, bounds: np.ndarray) -> pa.ListArray[Any]:
    """Return list<int32>: each token is its own label where it carries loss (trainers shift), IGNORED elsewhere."""
    import pyarrow as pa

    return list_of(np.where(block.labelled, block.tokens, np.int32(IGNORED)), bounds, pa.int32())


def file_of(shard: ShardToExport, suffix: str) -> str:
    """Name a shard's file as dataset hubs name parts: `train-00000-of-00003.parquet`."""
    return f"train-{shard.number:05d}-of-{shard.dataset.shards:05d}{suffix}"


def mask_of(block: RowBlock, bounds: np.ndarray) -> pa.ListArray[Any]:
    """Return list<int8>: 1 for each token that is a label (of itself, not shifted), 0 elsewhere."""
    import pyarrow as pa

    return list_of(block.labelled, bounds, pa.int8())


def attended(block: RowBlock) -> Mapping[str, pa.Array[Any]]:
    """Return the columns of a block's examples for trainers that ask for `attention_mask`: without pads, all tokens
    are seen."""
    import pyarrow as pa

    bounds = block.example_bounds
    seen = list_of(np.ones(len(block.tokens), dtype=np.int8), bounds, pa.int8())
    return {"input_ids": ids_of(block, bounds), "attention_mask": seen, "labels": labels_of(block, bounds)}


def watched(shard: ShardToExport, written: Written) -> Iterator[RowBlock]:
    """Read a shard once and count what is in it; an exporter that loses labels takes them off again."""
    for block in shard.blocks:
        written.examples += block.segments.examples
        written.tokens += len(block.tokens)
        written.trained_labels += int(np.count_nonzero(block.labelled))
        yield block


def labels_past(block: RowBlock, bounds: np.ndarray, most: int | np.ndarray) -> np.ndarray:
    """Count, int64 [spans], the labels behind the first `most` tokens, int64 [spans] or one number for all, of each
    span within these bounds."""
    # A running count over all tokens would cost more than all else that is counted.
    places = np.flatnonzero(block.labelled)
    cuts = np.minimum(bounds[:-1] + most, bounds[1:])
    return np.asarray(np.searchsorted(places, bounds[1:]) - np.searchsorted(places, cuts))


def labels_of_longer(block: RowBlock, most: int) -> int:
    """Count the labels of examples that have more than `most` tokens."""
    lengths = block.segments.example_tokens
    return int(np.count_nonzero(block.labelled & np.repeat(lengths > most, lengths)))


def unlabelled(block: RowBlock) -> int:
    """Count the tokens without a label; a trainer that ignores labels trains them too.

    An example's first token is not among them: no token stands before it that could be asked for it.
    """
    return len(block.tokens) - block.segments.examples - int(np.count_nonzero(block.labelled))


def write_parquet(path: Path, schema: pa.Schema, blocks: Iterable[Mapping[str, pa.Array[Any]]], *, rows: int) -> None:
    """Write blocks of columns, in row groups of at most so many lines."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    # Ids repeat too seldom within a page for a dictionary to be worth its time, and nobody asks for the least of them.
    plain: dict[str, Any] = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    plain["write_batch_size"] = _BATCH_VALUES
    with path.open("wb") as file, pq.ParquetWriter(file, schema, **plain) as writer:
        for columns in blocks:
            writer.write_table(pa.table(dict(columns), schema=schema), row_group_size=rows)


def configs_of(build: BuildToExport, pattern: str) -> list[dict[str, Any]]:
    """Return lines of a dataset card: each dataset is a configuration with the files of its folder."""

    def config(dataset: DatasetToExport) -> dict[str, Any]:
        return {
            "config_name": dataset.name,
            "data_files": [{"split": "train", "path": f"{dataset.name}/{pattern}"}],
        }

    first, *others = (config(dataset) for dataset in build.datasets)
    return [{**first, "default": True}, *others] if others else [first]


def sizes_category(build: BuildToExport) -> str:
    """Return the size class of a dataset, as dataset cards name it."""
    examples = sum(dataset.examples for dataset in build.datasets)
    steps = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    steps += [(10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B")]
    return next((word for most, word in steps if examples < most), "1B<n<10B")


def others(build: BuildToExport) -> str:
    """Return words for a build of several datasets, where settings name the first; none for a build of one."""
    names = " and ".join(f"`{dataset.name}`" for dataset in build.datasets[1:])
    return f" (`{build.datasets[0].name}` there; {names} likewise)" if names else ""


def said_lines(said: Said) -> list[dict[str, Any]]:
    """Return messages as a chat template is given them."""
    return [{"role": one.role, "content": one.content, **one.beside} for one in said.messages]
