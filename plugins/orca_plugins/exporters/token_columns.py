"""What exporters of tokens share: columns of ids and labels, and Parquet files that come out the same each time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.exporter import BuildToExport, DatasetToExport, RowBlock, ShardToExport, list_of

if TYPE_CHECKING:
    import pyarrow as pa

IGNORED = -100
"""The label of a token that carries no loss, for torch and all trainers on top of it."""


def ids_of(block: RowBlock, bounds: np.ndarray) -> pa.ListArray[Any]:
    """list<int32>: the tokens of examples, or of rows, whose bounds these are."""
    import pyarrow as pa

    return list_of(block.tokens, bounds, pa.int32())


def labels_of(block: RowBlock, bounds: np.ndarray) -> pa.ListArray[Any]:
    """list<int32>: each token is its own label where it carries loss (trainers shift), IGNORED elsewhere."""
    import pyarrow as pa

    return list_of(np.where(block.labelled, block.tokens, np.int32(IGNORED)), bounds, pa.int32())


def file_of(shard: ShardToExport, suffix: str) -> str:
    """The name of a shard's file, as dataset hubs name parts: `train-00000-of-00003.parquet`."""
    return f"train-{shard.number:05d}-of-{shard.dataset.shards:05d}{suffix}"


def write_parquet(path: Path, schema: pa.Schema, blocks: Iterable[Mapping[str, pa.Array[Any]]]) -> None:
    """Write blocks of columns, a row group each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    # Ids hardly repeat within a page as often as a dictionary needs, and labels are runs: plain values under zstd are
    # smaller and three times faster to write.
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        for columns in blocks:
            writer.write_table(pa.table(dict(columns), schema=schema), row_group_size=1 << 30)
        writer.close()
        file.flush()
        os.fsync(file.fileno())


def configs_of(build: BuildToExport, pattern: str) -> list[dict[str, Any]]:
    """Lines of a dataset card: each dataset is a configuration with the files of its folder."""

    def config(dataset: DatasetToExport) -> dict[str, Any]:
        return {
            "config_name": dataset.name,
            "data_files": [{"split": "train", "path": f"{dataset.name}/{pattern}"}],
        }

    first, *others = (config(dataset) for dataset in build.datasets)
    return [{**first, "default": True}, *others] if others else [first]


def sizes_category(build: BuildToExport) -> str:
    """The size of a dataset in the words of dataset cards."""
    examples = sum(dataset.examples for dataset in build.datasets)
    steps = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    steps += [(10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M")]
    return next((word for most, word in steps if examples < most), "n>100M")
