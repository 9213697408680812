"""What is wrong with a layout is said before a process group starts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from orca_recipes.errors import LayoutError
from orca_recipes.train.processes.parallel_layout import Layout, Place, checked, running
from tests.train.rows import small


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout(tensor_parallel=4), r"4 does not divide the 2 key-value heads .* choose one of 1, 2"),
        (Layout(tensor_parallel=3), r"3 does not divide the 4 attention heads"),
        (Layout(sequence_parallel=True), r"there is 1"),
        (Layout(tensor_parallel=2, sequence_parallel=True), r"rows of 33 tokens: .* a multiple of 4"),
        (Layout(data_parallel=0), r"at least 1"),
        (Layout(pipeline_parallel=3), r"pipeline parallel 3 does not divide the 2 layers of .*: choose one of 1, 2$"),
    ],
    ids=str,
)
def test_a_layout_that_does_not_fit_is_refused_with_one_that_does(layout: Layout, said: str):
    with pytest.raises(LayoutError, match=said):
        checked(layout, small(), row_tokens=33, align=4)
    assert not torch.distributed.is_initialized()


def test_a_layout_that_fits_is_itself():
    layout = Layout(tensor_parallel=2, data_parallel=3, sequence_parallel=True)
    assert checked(layout, small(), row_tokens=2048) is layout
    assert layout.processes == 6


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LayoutError, match="torch sees none"):
        checked(Layout(device="cuda"), small())


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(LayoutError, match="2 processes were started on a machine with 1 GPU"):
        checked(Layout(data_parallel=2, device="cuda"), small())


def test_a_width_that_tensor_parallel_cuts_unevenly_is_refused():
    with pytest.raises(LayoutError, match="2 does not divide the 65 width of its feed-forward layers"):
        checked(Layout(tensor_parallel=2), replace(small(), mlp_hidden=65))


def test_another_number_of_processes_than_the_layout_needs_is_refused():
    with pytest.raises(LayoutError, match="needs 4 processes and 1 were started"), running(Layout(4), seed=1):
        pass


def test_ranks_know_their_place(run_layout: Callable[..., list[Any]]):
    def place_of(place: Place) -> tuple[int, int, int, bool]:
        return place.rank, place.tensor_rank, place.data_rank, place.counts

    assert run_layout(Layout(tensor_parallel=2), place_of) == [(0, 0, 0, True), (1, 1, 0, False)]
    assert run_layout(Layout(data_parallel=2), place_of) == [(0, 0, 0, True), (1, 0, 1, True)]
    assert run_layout(Layout(pipeline_parallel=2), place_of) == [(0, 0, 0, False), (1, 0, 0, True)]


def test_cuda_is_itself_again_when_a_layout_on_the_cpu_stops(fork_ranks: Callable[..., list[Any]]):
    def look(rendezvous: str) -> bool:
        before = torch.cuda.current_device, torch.cuda.synchronize
        with running(Layout(), seed=1):
            assert torch.cuda.current_device() == torch.device("cpu")
        return (torch.cuda.current_device, torch.cuda.synchronize) == before

    assert fork_ranks(1, look) == [True]
