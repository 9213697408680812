"""Ranks for the tests of the trainer: forked from this process, which has imported torch and megatron once.

A test never starts a layout, or runs a training command, in this process itself: the threads of a process group do not
outlive a fork, and every later test would hang.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # torch and megatron warn of themselves while they are imported.
    warnings.simplefilter("ignore")
    import torch

    from orca_recipes.train.processes.parallel_layout import Layout, running
    from tests.train.builds import make_build
    from tests.train.ranks import forked


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """OpenMP's threads do not outlive a fork, so neither this process nor its children may count on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_flushed() -> Iterator[None]:
    """No test cuts the power, and a busy disk takes a tenth of a second for each file that it is made to flush."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def fork_ranks(tmp_path: Path) -> Callable[..., list[Any]]:
    """`fork_ranks(n, body)`: what `body(rendezvous)` gives on each of n ranks, whose environment is torchrun's.

    A rank's exception is raised here, and the other ranks are ended.
    """
    started = 0

    def fork(processes: int, body: Callable[[str], Any]) -> list[Any]:
        nonlocal started
        started += 1
        return forked(processes, body, f"file://{tmp_path}/rendezvous-{started}")

    return fork


@pytest.fixture
def run_layout(fork_ranks: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """`run_layout(layout, body)`: what `body(place)` gives on each rank of a running layout."""

    def run(layout: Layout, body: Callable[..., Any], *, seed: int = 1) -> list[Any]:
        def rank(rendezvous: str) -> Any:
            with running(layout, seed=seed, rendezvous=rendezvous) as place:
                return body(place)

        return fork_ranks(layout.processes, rank)

    return run


@pytest.fixture(scope="session")
def fork_from_here(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """As `fork_ranks`, for what several tests share."""

    def fork(processes: int, body: Callable[[str], Any]) -> list[Any]:
        torch.set_num_threads(1)
        return forked(processes, body, f"file://{tmp_path_factory.mktemp('meeting')}/rendezvous")

    return fork


@pytest.fixture(scope="session")
def sums_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of two datasets and two phases; tests read it, and damage only copies."""
    return make_build(tmp_path_factory.mktemp("sums") / "project")
