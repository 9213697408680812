"""Stock readers that take segments for documents fail on a shard at their first batch; readers of rows see no guard."""

import importlib
import logging
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.idx_file import Index, contiguous_offsets, read_index, write_index
from orca_recipes.shards.layout import DTYPES, GUARD, GUARD_LENGTH, GUARD_OFFSET, STARTS, TRAINED, guards_of
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.writer import write_pair

SPLITS = ["1,0,0", "969,30,1"]
CONTEXT, ANSWER = STARTS | 2 << 2, TRAINED | 3 << 2


def write(prefix: Path, *, rows: int, examples: int, tokens: int, guarded: bool = True) -> None:
    """Rows of so many examples, each of a context and an answer of so many tokens, which count up."""
    segments = 2 * rows * examples
    write_pair(
        prefix=prefix,
        vocabulary_size=60_000,
        blocks=iter([np.arange(segments * tokens) % 50_000]),
        segment_lengths=np.full(segments, tokens, dtype=np.int32),
        segment_modes=np.tile(np.array([CONTEXT, ANSWER], dtype=np.int8), segments // 2),
        row_starts=np.arange(rows + 1) * 2 * examples,
        guarded=guarded,
    )


@pytest.fixture(scope="session")
def megatron() -> dict[str, ModuleType]:
    """Megatron's own readers of documents; they say on every rank what they do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ("indexed_dataset", "gpt_dataset", "blended_megatron_dataset_builder")
        found = {name: importlib.import_module(f"megatron.core.datasets.{name}") for name in names}
    logging.getLogger("megatron").setLevel(logging.ERROR)
    return found


class _Tokenizer:
    """What GPTDataset asks of a tokenizer."""

    vocab_size, eod, pad, unique_identifiers = 60_000, 2, 0, {"name": "any"}


def first_batch(megatron: dict[str, ModuleType], prefix: Path, split: str, **more: Any) -> dict[str, Any]:
    """What pretraining does with --data-path: build the three splits and take the first batch of the first one."""
    import torch

    words: dict[str, Any] = {
        "random_seed": 1234,
        "sequence_length": 1024,
        "blend": ([str(prefix)], None),
        "split": split,
        "reset_position_ids": False,
        "reset_attention_mask": False,
        "eod_mask_loss": False,
        "create_attention_mask": False,
        "tokenizer": _Tokenizer(),
        "path_to_cache": str(prefix.with_name("cache")),
        "mid_level_dataset_surplus": 0.005,
    }
    gpt = megatron["gpt_dataset"]
    config = gpt.GPTDatasetConfig(**words | more)
    builder = megatron["blended_megatron_dataset_builder"].BlendedMegatronDatasetBuilder
    train, _, _ = builder(gpt.GPTDataset, [64, None, None], lambda: True, config).build()
    batch: dict[str, Any] = next(iter(torch.utils.data.DataLoader(train, batch_size=4)))
    return batch


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("rows", "examples"), [(100, 3), (1, 40)])
def test_a_reader_of_documents_fails_at_its_first_batch(tmp_path, megatron, split, rows, examples):
    write(tmp_path / "00000", rows=rows, examples=examples, tokens=1500)
    with pytest.raises(ValueError, match="offset must be non-negative"):
        first_batch(megatron, tmp_path / "00000", split)


@pytest.mark.parametrize("split", SPLITS)
def test_without_guards_it_trains_on_every_token_without_a_word(tmp_path, megatron, split):
    write(tmp_path / "00000", rows=100, examples=3, tokens=1500, guarded=False)
    batch = first_batch(megatron, tmp_path / "00000", split)
    assert batch["loss_mask"].mean() > 0.9


def test_a_reader_of_documents_fails_from_every_seed(tmp_path, megatron):
    write(tmp_path / "00000", rows=100, examples=3, tokens=1500)
    for seed in range(20):
        with pytest.raises(ValueError, match="offset must be non-negative"):
            first_batch(megatron, tmp_path / "00000", "1,0,0", random_seed=seed, sequence_length=4096)


def test_it_fails_too_where_files_are_read_and_not_mapped(tmp_path, megatron, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(megatron["indexed_dataset"].time, "sleep", waits.append)
    write(tmp_path / "00000", rows=100, examples=3, tokens=1500)
    with pytest.raises(OSError, match="Invalid argument"):
        first_batch(megatron, tmp_path / "00000", "969,30,1", mmap_bin_files=False)
    assert waits, "Megatron tries again before it gives up"


def test_stock_megatron_still_reads_every_row_by_its_modes(tmp_path, indexed_dataset):
    prefix = tmp_path / "00000"
    write(prefix, rows=5, examples=3, tokens=7)
    stock, shard = indexed_dataset.IndexedDataset(str(prefix), multimodal=True), Shard.open(prefix)
    tokens, mode = stock[0]
    assert (tokens.tolist(), mode) == (list(range(7)), CONTEXT)
    for row in range(shard.rows):
        places = [at for at in range(*stock.document_indices[row : row + 2]) if stock.index.sequence_modes[at] != GUARD]
        parts = [(stock[at][0].tolist(), stock[at][1]) for at in places]
        assert [token for part, _ in parts for token in part] == shard.row(row).tokens.tolist()
        assert [mode for _, mode in parts] == shard.row(row).segments.modes.tolist()
    del stock


@pytest.mark.parametrize(
    ("tokens", "guards"),
    [(1, 1), (8_388_607, 1), (8_388_608, 2), (100_000_000, 12), (10_000_000_000, 1193)],
)
def test_guards_say_that_they_hold_256_times_the_tokens(tokens, guards):
    assert guards_of(tokens) == guards
    assert guards * GUARD_LENGTH >= 256 * tokens


@given(counts=st.lists(st.integers(1, 3), min_size=1, max_size=4), guards=st.integers(0, 5), proven=st.booleans())
def test_an_index_reads_the_same_with_and_without_guards(tmp_path_factory, counts, guards, proven):
    path = tmp_path_factory.mktemp("index") / "00000.idx"
    lengths = np.arange(1, sum(counts) + 1, dtype=np.int32)
    modes = np.full(len(lengths), CONTEXT, dtype=np.int8)
    starts, dtype = np.cumsum([0, *counts]), DTYPES[8]
    write_index(path, Index(dtype, lengths, contiguous_offsets(lengths, dtype), starts, modes, guards))
    before = path.read_bytes()
    found = read_index(path, proven=proven)
    assert found.guards == guards
    assert found.lengths.tolist() == lengths.tolist()
    assert found.offsets.tolist() == contiguous_offsets(lengths, dtype).tolist()
    assert found.row_starts.tolist() == starts.tolist()
    assert found.modes.tolist() == modes.tolist()
    assert not any(column.flags.writeable for column in (found.lengths, found.offsets, found.row_starts, found.modes))
    assert path.read_bytes() == before, "what is moved in memory stays there"


def damaged(path: Path, place: int, value: int, dtype: str) -> None:
    data = bytearray(path.read_bytes())
    new = np.array([value], dtype=dtype).tobytes()
    data[place : place + len(new)] = new
    path.write_bytes(data)


def test_a_guard_that_says_something_else_is_refused(tmp_path):
    write(tmp_path / "00000", rows=2, examples=1, tokens=3)
    damaged(tmp_path / "00000.idx", 34 + 4, 3, "<i4")
    with pytest.raises(DamagedShard, match=r"guard 0 says 3 tokens at byte -4611686018427387904"):
        Shard.open(tmp_path / "00000")
    damaged(tmp_path / "00000.idx", 34 + 4, GUARD_LENGTH, "<i4")
    damaged(tmp_path / "00000.idx", 34 + 4 * 5 + 8, 0, "<i8")
    with pytest.raises(DamagedShard, match=rf"guard 0 says {GUARD_LENGTH} tokens at byte 0"):
        Shard.open(tmp_path / "00000")
    damaged(tmp_path / "00000.idx", 34 + 4 * 5 + 8, GUARD_OFFSET, "<i8")
    assert Shard.open(tmp_path / "00000").rows == 2


def test_a_guard_anywhere_else_is_no_mode_that_the_format_knows(tmp_path):
    write(tmp_path / "00000", rows=2, examples=1, tokens=3)
    damaged(tmp_path / "00000.idx", (tmp_path / "00000.idx").stat().st_size - 1, GUARD, "i1")
    with pytest.raises(DamagedShard, match="segment 3 has mode -128"):
        Shard.open(tmp_path / "00000")


def test_a_row_that_ends_among_guards_is_refused(tmp_path):
    write(tmp_path / "00000", rows=2, examples=1, tokens=3)
    damaged(tmp_path / "00000.idx", 34 + 4 * 5 + 8 * 5 + 8, 1, "<i8")
    with pytest.raises(DamagedShard, match="row 0 holds no segment"):
        Shard.open(tmp_path / "00000")


def test_a_shard_of_format_2_without_its_guards_is_found(build, reseal):
    shard = Shard.open(build / "main/00000")
    index = shard.index
    lengths, offsets, modes, starts = (
        np.array(column) for column in (index.lengths, index.offsets, index.modes, index.row_starts)
    )
    del shard
    for guards in (0, 2):
        write_index(build / "main/00000.idx", Index(index.dtype, lengths, offsets, starts, modes, guards))
        reseal(build)
        (found,) = verify(build).findings
        assert found.file == "main/00000.idx"
        assert found.sentence.startswith(f"it has {guards} guards behind its first segment, where 1 belong")
