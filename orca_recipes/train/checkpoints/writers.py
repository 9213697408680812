"""The processes that megatron-core forks from a rank to write a checkpoint.

One that outlives its rank waits for ever, and holds the rank's connections open: the other ranks then wait for a peer
that is gone, and whoever reads the command's output for its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import register_after_fork

from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.storage import WriteResult

from orca_recipes.train.megatron_versions import replaced
from orca_recipes.train.processes.parent import end_with, loaded_prctl


class _Rank:
    """The process that forks writers."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.prctl = loaded_prctl()


@contextmanager
def ending_with_their_rank() -> Iterator[None]:
    """Have every process that is forked inside end as soon as this one does, however it does (Linux; elsewhere not)."""
    rank = _Rank()
    # It is forgotten when the rank is: processes that are forked later are none of ours.
    register_after_fork(rank, _end_with)
    yield
    del rank


@contextmanager
def writing_alike() -> Iterator[None]:
    """Have torch describe equal checkpoints by equal bytes.

    Its own descriptions hold their folder, a random number, and a rank's files in the order in which they were written.
    """
    end = FileSystemWriter.finish

    def end_in_order(writer: FileSystemWriter, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        end(writer, metadata, [sorted(of_rank, key=_place) for of_rank in results])

    with replaced(FileSystemWriter, storage_meta=lambda writer: None, finish=end_in_order):
        yield


def _place(result: WriteResult) -> tuple[str, int]:
    return result.storage_data.relative_path, result.storage_data.offset


def _end_with(rank: _Rank) -> None:
    end_with(rank.pid, rank.prctl)
    # One that is forked from here in turn ends with this process.
    rank.pid = os.getpid()
