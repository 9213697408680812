"""Ranks forked from a process that has imported torch and megatron-core once."""

import multiprocessing
import os
import pickle
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from orca_recipes.cli.main import main
from tests.patience import SECONDS

with warnings.catch_warnings():
    # torch and megatron warn of themselves while they are imported.
    warnings.simplefilter("ignore")
    import torch
    import torch.utils.tensorboard

    import orca_recipes.train.model.network  # noqa: F401

_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str


def forked(processes: int, body: Callable[[str], Any], rendezvous: str) -> list[Any]:
    """What `body(rendezvous)` gives on each of so many ranks, whose environment is torchrun's.

    A rank's exception is raised here, and the other ranks are ended.
    """
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


def forked_command(*words: str, folder: Path) -> Ended:
    """How a command ends in a folder, in a process that has its imports from this one.

    Not for `build`: the threads that polars has started here do not outlive a fork.
    """

    def body(rendezvous: str) -> Ended:
        for name in _OF_TORCHRUN:
            del os.environ[name]
        os.chdir(folder)
        done = CliRunner().invoke(main, words)
        return Ended(done.exit_code, done.stdout, done.stderr)

    [ended] = forked(1, body, "")
    assert isinstance(ended, Ended)
    return ended


def _child(rank: int, processes: int, body: Callable[[str], Any], rendezvous: str, end: Connection) -> None:
    os.environ |= dict(zip(_OF_TORCHRUN, map(str, (rank, rank, processes, processes)), strict=True))
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
    if not end.poll(SECONDS):
        raise AssertionError(f"rank {rank} said nothing for {SECONDS} seconds")
    try:
        is_well, answer = pickle.loads(end.recv_bytes())
    except EOFError:
        raise AssertionError(f"rank {rank} died") from None
    if not is_well:
        raise answer
    return answer
