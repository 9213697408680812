"""Writers turn packed rows into files that a trainer opens."""

import pickle

import numpy as np
import pytest

from orca_plugins.writers.megatron import Megatron
from orca_recipes.errors import DamagedShard
from orca_recipes.shards.reader import Shard


def write(prefix, tokens):
    return Megatron().write(
        prefix=prefix,
        vocabulary_size=300,
        blocks=iter([np.array(tokens[:2], dtype=np.uint32), np.array(tokens[2:], dtype=np.uint32)]),
        segment_lengths=np.array([2, 1, 2], dtype=np.int32),
        segment_modes=np.array([10, 13, 15], dtype=np.int8),
        row_starts=np.array([0, 2, 3]),
    )


def test_megatron_writes_a_pair_and_says_which_files(tmp_path):
    files = write(tmp_path / "00000", [1, 2, 3, 4, 5])
    assert [file.name for file in files] == ["00000.bin", "00000.idx"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    shard = Shard.open(tmp_path / "00000")
    assert [shard.row(row).tokens.tolist() for row in range(shard.rows)] == [[1, 2, 3], [4, 5]]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    files = [write(tmp_path / name, [1, 2, 3, 4, 5]) for name in ("one", "two")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_megatron_never_stores_a_token_that_does_not_fit(tmp_path):
    with pytest.raises(DamagedShard, match="token 70000 at place 2 is outside the vocabulary of 300"):
        write(tmp_path / "00000", [1, 2, 70_000, 4, 5])


def test_a_writer_travels_to_other_processes():
    writer = Megatron(shard_tokens=5)
    assert pickle.loads(pickle.dumps(writer)) == writer
