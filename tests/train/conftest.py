"""Ranks for the tests of the trainer: forked from this process, which has imported torch and megatron once.

A test never starts a layout, or runs a training command, in this process itself: the threads of a process group do not
outlive a fork, and every later test would hang.
"""

import multiprocessing
import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # torch and megatron warn of themselves while they are imported.
    warnings.simplefilter("ignore")
    import torch
    import torch.utils.tensorboard

    import orca_recipes.train.model.network  # noqa: F401
    from orca_recipes.train.processes.parallel_layout import Layout, running
    from tests.train.builds import make_build

_PATIENCE_SECONDS = 90


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """OpenMP's threads do not outlive a fork, so neither this process nor its children may count on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fork_ranks(tmp_path: Path) -> Callable[..., list[Any]]:
    """`fork_ranks(n, body)`: what `body(rendezvous)` gives on each of n ranks, whose environment is torchrun's.

    A rank's exception is raised here, and the other ranks are ended.
    """
    started = 0

    def fork(processes: int, body: Callable[[str], Any]) -> list[Any]:
        nonlocal started
        started += 1
        return _forked(processes, body, f"file://{tmp_path}/rendezvous-{started}")

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


def _forked(processes: int, body: Callable[[str], Any], rendezvous: str) -> list[Any]:
    assert not torch.distributed.is_initialized(), "a layout was started outside of fork_ranks"
    context = multiprocessing.get_context("fork")
    children, ends = [], []
    for rank in range(processes):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(rank, processes, body, rendezvous, theirs), daemon=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
        theirs.close()
        children.append(child)
        ends.append(ours)
    try:
        return [_result(rank, end) for rank, end in enumerate(ends)]
    finally:
        for child in children:
            child.join(5 if child.is_alive() else 0)
            if child.is_alive():
                child.kill()
                child.join()


def _child(rank: int, processes: int, body: Callable[[str], Any], rendezvous: str, end: Connection) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        answer: tuple[bool, Any] = True, body(rendezvous)
    except BaseException as error:
        error.add_note(f"on rank {rank}:\n{traceback.format_exc()}")
        answer = False, error
    end.send_bytes(pickle.dumps(answer))
    end.close()


def _result(rank: int, end: Connection) -> Any:
    if not end.poll(_PATIENCE_SECONDS):
        raise AssertionError(f"rank {rank} said nothing for {_PATIENCE_SECONDS} seconds")
    try:
        is_well, answer = pickle.loads(end.recv_bytes())
    except EOFError:
        raise AssertionError(f"rank {rank} died") from None
    if not is_well:
        raise answer
    return answer


@pytest.fixture(scope="session")
def fork_from_here(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """As `fork_ranks`, for what several tests share."""

    def fork(processes: int, body: Callable[[str], Any]) -> list[Any]:
        torch.set_num_threads(1)
        return _forked(processes, body, f"file://{tmp_path_factory.mktemp('meeting')}/rendezvous")

    return fork


@pytest.fixture(scope="session")
def sums_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of two datasets and two phases; tests read it, and damage only copies."""
    return make_build(tmp_path_factory.mktemp("sums") / "project")
