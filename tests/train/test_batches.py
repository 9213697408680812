"""What the model is fed: rows of a real build, as the format says."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.train.data.batches import MicroBatches, Share, read_batch
from orca_recipes.train.data.order import PhaseOrder, RowPlace
from orca_recipes.train.data.rows import Rows


@pytest.fixture(scope="module")
def rows(sums_build: Path) -> Rows:
    return Rows(sums_build, read_manifest(sums_build))


def test_a_batch_is_the_formats_training_view_of_its_rows(rows: Rows, sums_build: Path):
    places = [RowPlace("sums", row, 0) for row in range(rows.count("sums"))]
    batch = read_batch(rows, places, len(places))
    expected = []
    for shard in rows.manifest.datasets["sums"].shards:
        opened = Shard.open(sums_build / shard.prefix, vocabulary_size=rows.manifest.vocabulary_size, check=True)
        expected += [
            opened.training_view(row, row_tokens=64, align=1, pad_id=rows.manifest.pad_id) for row in range(shard.rows)
        ]
    assert len(rows.manifest.datasets["sums"].shards) > 1
    assert np.array_equal(batch.tokens_BT, np.stack([view.tokens for view in expected]))
    assert np.array_equal(batch.labels_BT, np.stack([view.labels for view in expected]))
    assert np.array_equal(batch.loss_mask_BT, np.stack([view.loss_mask for view in expected]))
    assert all(np.array_equal(found, view.cu_seqlens) for found, view in zip(batch.cu_seqlens, expected, strict=True))
    assert batch.target_tokens == rows.manifest.datasets["sums"].trained_tokens
    assert batch.stored_tokens == rows.manifest.datasets["sums"].tokens


def test_ranks_without_rows_run_masked_rows(rows: Rows):
    order = PhaseOrder(seed=1, phase=1, held={"sums": rows.count("sums")}, taken={"sums": 3})
    batches = [
        list(MicroBatches(rows=rows, order=order, share=Share(rank, 2, 2), start=0, stop=3)) for rank in range(2)
    ]
    (first,), (second,) = batches
    assert [len(batch.places) for batch in (first, second)] == [2, 1]
    assert second.loss_mask_BT[1].sum() == 0
    assert torch.equal(second.tokens_BT[1], torch.full((64,), rows.manifest.pad_id))
    assert second.cu_seqlens[1].tolist() == [0, 64]


def test_memory_is_flat_over_epochs(rows: Rows):
    held = rows.count("sums")

    def epoch(number: int) -> int:
        order = PhaseOrder(seed=1, phase=1, held={"sums": held}, taken={"sums": held * 80})
        for _ in MicroBatches(
            rows=rows, order=order, share=Share(0, 1, 4), start=held * number, stop=held * (number + 1)
        ):
            pass
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    gc.freeze()  # what was there before is not looked at 80 times
    tracemalloc.start()
    try:
        early = max(epoch(number) for number in range(20))
        late = max(epoch(number) for number in range(20, 80))
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    # Less than ten bytes a row: numpy keeps small blocks for reuse, and nothing else stays.
    assert late - early < 10 * 60 * held
