"""A checkpoint that processes of their own write while the training goes on.

megatron-core copies what is to be written to the host and forks; the fork holds the numbers of that step whatever is
trained meanwhile. What is published is the same as of a checkpoint that the training waited for, to the byte.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncCallsQueue

from orca_recipes.shards.digests import file_digest
from orca_recipes.train.checkpoints.publication import Publication, is_first
from orca_recipes.train.checkpoints.writers import ending_with_their_rank, writing_alike
from orca_recipes.train.megatron_versions import begin_to_save, keep_numbers_for_older, reporting_to_this_process


class Writing:
    """A checkpoint that is being written; every rank has one, and asks it together with the others."""

    def __init__(self, publication: Publication, state: dict[str, Any]) -> None:
        """Begin to write what `dist_checkpointing` is to save; the training may go on when it returns."""
        self._publication, self._calls = publication, AsyncCallsQueue()
        publication.begin()
        with publication.writing(), ending_with_their_rank():
            # Its queues take any number of bytes; one of a pipe alone would halt a writer that nobody reads.
            self._manager = multiprocessing.get_context("fork").Manager()
            self._digests = self._manager.Queue()
            with reporting_to_this_process(self._manager.Queue()):
                request = begin_to_save(state, str(publication.aside))
                if request.async_fn is not None:
                    write = partial(_write, request.async_fn, publication.aside, self._digests)
                    request = request._replace(async_fn=write)
                self._calls.schedule_async_request(request)

    def is_published(self, *, wait: bool) -> bool:
        """Publish the checkpoint if all ranks have written it, and tell whether it is.

        Args:
            wait: until it is.
        Raises: StoreError where it cannot be written.
        """
        with self._publication.writing():
            with writing_alike():
                if not self._calls.maybe_finalize_async_calls(blocking=wait):
                    return False
            if is_first():
                keep_numbers_for_older(self._publication.aside)
        self._publication.end(self._taken_digests())
        self._manager.shutdown()
        return True

    def abandon(self) -> None:
        """End the writers of this rank, and leave nothing of what they wrote; other ranks need not be there."""
        for call in self._calls.async_calls:
            if call.async_caller.process is not None:
                call.async_caller.process.kill()
                call.async_caller.process.join()
        self._publication.abandon()
        self._manager.shutdown()

    def _taken_digests(self) -> Mapping[str, str]:
        try:
            found: Mapping[str, str] = self._digests.get_nowait()
        except queue.Empty:
            return {}
        return found


def _write(write: Callable[..., None], folder: Path, digests: Any, *arguments: Any, **more: Any) -> None:
    """Write this rank's files as megatron-core does, and take their digests here, where the training need not wait.

    Args:
        arguments: megatron-core's own; the last is the queue by which it reports.
    """
    try:
        write(*arguments, **more)
        digests.put({path.name: file_digest(path) for path in folder.glob(f"__{torch.distributed.get_rank()}_*")})
    except Exception as error:
        # Any fault of any writer: the rank says it, which would else learn only that nothing was reported.
        arguments[-1].put(error)
