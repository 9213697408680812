"""Reading ahead: a thread reads the next batch while the one before it is computed, into memory that a GPU can read.

Batches come in the order of their rows, however fast the thread is, and what is wrong with one is raised where it is
asked for. The next step's first batch is read while ranks meet at the end of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from itertools import pairwise

import torch

from orca_recipes.train.data.batches import Batch, MicroBatches

_Place = tuple[MicroBatches, int]
"""Micro-batches, and which of them."""


class Ahead(AbstractContextManager["Ahead"]):
    """One thread, and the batch that it reads; on leaving, the thread ends."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead", initializer=self._use_device)
        self._begun: tuple[_Place, Future[Batch]] | None = None

    def over(self, batches: MicroBatches, *, then: MicroBatches | None = None) -> Iterator[Batch]:
        """Yield these micro-batches, of which the first may be read already.

        Args:
            then: what will be asked for next, as far as it is known.
        Raises: DamagedShard where a row cannot be read.
        """
        places: list[_Place | None] = [(batches, number) for number in range(len(batches))]
        places.append((then, 0) if then is not None else None)
        for place, following in pairwise(places):
            assert place is not None
            found = self._begin(place).result()
            if following is not None:
                self._begin(following)
            yield found

    def settle(self) -> None:
        """Wait until nothing is read: before a fork, which would copy the locks that a reading thread holds."""
        if self._begun is not None:
            wait([self._begun[1]])

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _begin(self, place: _Place) -> Future[Batch]:
        """Begin to read a batch; one that was begun is not read again."""
        if self._begun is None or self._begun[0] != place:
            self._begun = place, self._thread.submit(self._read, *place)
        return self._begun[1]

    def _read(self, batches: MicroBatches, number: int) -> Batch:
        found = batches[number]
        return found.pinned() if self._device.type == "cuda" else found

    def _use_device(self) -> None:
        if self._device.type == "cuda":
            # Pinned memory is known to a thread's GPU, and every thread begins with the first one.
            torch.cuda.set_device(self._device)
