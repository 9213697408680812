"""Forging a build as one does who knows the format: what is changed is promised again by every digest."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.manifest import Contents, Made, read_manifest, sealed, write_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.table_digest import content_digest_of_table
from orca_recipes.shards.writer import write_pair


def reseal(directory: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Promise by digest whatever the directory now holds, as one does who knows the format."""
    table = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    change(table)
    made = table.pop("made")
    for file in (*table["files"], *made["table_files"]):
        path = directory / file["path"]
        file.update(bytes=path.stat().st_size, digest=file_digest(path))
    for listed in table["tables"]:
        listed["content_digest"] = content_digest_of_table(directory / listed["path"])
    contents = {key: value for key, value in table.items() if key not in ("data_digest", "digest", "seal")}
    manifest = sealed(
        Contents.model_validate_json(json.dumps(contents)), made=Made.model_validate_json(json.dumps(made))
    )
    write_manifest(directory, manifest)


def rewrite(directory: Path, prefix: str, change: Callable[[np.ndarray, np.ndarray, Shard], None]) -> None:
    """Write a pair again with its tokens or modes changed in place, and the digests of tokens that records hold."""
    shard = Shard.open(directory / prefix)
    tokens, modes = np.array(shard.tokens, dtype=np.uint32), np.array(shard.segments.modes)
    lengths, starts = np.array(shard.segments.lengths), np.array(shard.segments.row_starts)
    bounds = (shard.segments.example_bounds * 2).tolist()
    change(tokens, modes, shard)
    write_pair(
        prefix=directory / prefix,
        vocabulary_size=read_manifest(directory).vocabulary_size,
        blocks=iter([tokens]),
        segment_lengths=lengths,
        segment_modes=modes,
        row_starts=starts,
        guarded=True,
    )
    records = directory / f"{prefix}.records.parquet"
    table = pq.read_table(records)
    data = (directory / f"{prefix}.bin").read_bytes()
    digests = [xxhash.xxh3_128_digest(data[one:other]) for one, other in pairwise(bounds)]
    at = table.column_names.index("ids_xxh3")
    pq.write_table(table.set_column(at, "ids_xxh3", pa.array(digests, pa.binary(16))), records)
