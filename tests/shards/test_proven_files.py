"""Files that are read on their own are held against the manifest first."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.proven_files import prove_files
from orca_recipes.shards.records import read_columns, read_records


def test_sound_files_pass_and_damaged_ones_are_named(build: Path):
    promised = read_manifest(build)
    paths = [file.path for file in (*promised.files, *promised.made.table_files)]
    prove_files(build, promised, paths)
    (build / "main/00000.bin").write_bytes(b"else")
    with pytest.raises(DamagedShard, match=r"main/00000\.bin: its digest is"):
        prove_files(build, promised, paths)
    (build / "main/00000.idx").unlink()
    with pytest.raises(DamagedShard, match=r"main/00000\.idx: there is no such file"):
        prove_files(build, promised, ["main/00000.idx"])
    with pytest.raises(DamagedShard, match="does not promise this file"):
        prove_files(build, promised, ["main/mine.txt"])


def test_a_table_that_another_writer_wrote_is_the_same_table(build: Path):
    path = build / "main/00000.records.parquet"
    before, _ = read_records(path)
    pq.write_table(pq.read_table(path), path, compression="none")
    prove_files(build, read_manifest(build), ["main/00000.records.parquet"])
    assert read_columns(path, ["id", "task"]).table.column_names == ["id", "task"]
    assert (read_columns(path, ["id", "task"]).ids == before.ids).all()
