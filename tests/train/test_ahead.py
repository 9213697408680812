"""Batches that a thread reads ahead: those of their rows, in order, and nothing else."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train.data import batches as batches_module
from orca_recipes.train.data.ahead import Ahead
from orca_recipes.train.data.batches import Batch, MicroBatches, Share
from orca_recipes.train.data.order import PhaseOrder, RowPlace
from orca_recipes.train.data.rows import Rows
from tests.train.pretended_gpu import Pinned, a_pretended_gpu

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows(sums_build: Path) -> Rows:
    return Rows(sums_build, read_manifest(sums_build))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[RowPlace]]:
    """The places that were read, in order."""
    noted: list[list[RowPlace]] = []
    reading = batches_module.read_batch

    def note(rows: Rows, places: list[RowPlace], micro_rows: int) -> Batch:
        noted.append(places)
        return reading(rows, places, micro_rows)

    monkeypatch.setattr(batches_module, "read_batch", note)
    return noted


def step(rows: Rows, start: int, stop: int) -> MicroBatches:
    order = PhaseOrder(seed=1, phase=1, held={"sums": rows.count("sums")}, taken={"sums": rows.count("sums")})
    return MicroBatches(rows, order, Share(0, 1, 2), start=start, stop=stop)


def ahead_threads() -> Iterator[threading.Thread]:
    return (thread for thread in threading.enumerate() if thread.name.startswith("ahead"))


def test_batches_are_those_of_their_rows_in_order_and_each_is_read_once(rows: Rows, read: list[list[RowPlace]]):
    first, second = step(rows, 0, 7), step(rows, 7, 10)
    with Ahead(CPU) as ahead:
        found = [*ahead.over(first, then=second), *ahead.over(second)]
    expected = [[first.order[position] for position in at] for at in ([0, 1], [2, 3], [4, 5], [6], [7, 8], [9])]
    assert [list(batch.places) for batch in found] == read == expected
    again = [first[number] for number in range(4)]
    assert all(torch.equal(one.tokens_BT, other.tokens_BT) for one, other in zip(found[:4], again, strict=True))
    assert not list(ahead_threads())


def test_the_next_batch_is_read_while_one_is_computed(rows: Rows, read: list[list[RowPlace]]):
    with Ahead(CPU) as ahead:
        computing = ahead.over(step(rows, 0, 4), then=step(rows, 4, 6))
        next(computing)
        ahead.settle()
        assert len(read) == 2
        next(computing)
        ahead.settle()
        assert len(read) == 3


def test_what_was_read_for_a_step_that_is_not_taken_is_left(rows: Rows):
    with Ahead(CPU) as ahead:
        list(ahead.over(step(rows, 0, 4), then=step(rows, 4, 6)))
        other = step(rows, 6, 8)
        [batch] = ahead.over(other)
    assert list(batch.places) == [other.order[6], other.order[7]]


def test_a_row_that_cannot_be_read_is_told_of_when_its_turn_comes(rows: Rows, monkeypatch: pytest.MonkeyPatch):
    reading = batches_module.read_batch

    def fail(rows: Rows, places: list[RowPlace], micro_rows: int) -> Batch:
        if len(places) == 1:
            raise DamagedShard("sums/00001.bin: it was cut short")
        return reading(rows, places, micro_rows)

    monkeypatch.setattr(batches_module, "read_batch", fail)
    with Ahead(CPU) as ahead:
        computing = ahead.over(step(rows, 0, 5))
        next(computing)
        next(computing)
        with pytest.raises(DamagedShard, match="cut short"):
            next(computing)
        # Nobody asks for what follows an interrupted step, so nobody is told of it.
        list(ahead.over(step(rows, 0, 4), then=step(rows, 4, 5)))
    assert not list(ahead_threads())


def test_for_a_gpu_batches_are_read_into_pinned_memory(rows: Rows):
    with a_pretended_gpu() as device, Ahead(device) as ahead:
        [batch] = ahead.over(step(rows, 0, 2))
        tensors = [batch.tokens_BT, batch.labels_BT, batch.loss_mask_BT, batch.wanted]
        assert all(type(tensor) is Pinned for tensor in tensors)
