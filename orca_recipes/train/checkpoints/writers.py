"""The processes that megatron-core forks from a rank to write a checkpoint.

One that outlives its rank waits for ever, and holds the rank's connections open: the other ranks then wait for a peer
that is gone, and whoever reads the command's output for its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import register_after_fork

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


def _end_with(rank: _Rank) -> None:
    end_with(rank.pid, rank.prctl)
