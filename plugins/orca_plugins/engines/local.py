"""The parts of stages, run by processes of this machine.

Processes are spawned, never forked: polars hangs after a fork, and a forkserver imports the caller's main module, which
may import polars. They are kept until `close`, so that each pays for its imports and its tokenizer once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import RLock
from typing import Any, Literal

from pydantic import PrivateAttr

from orca_plugins.engines._pool import Pool
from orca_recipes.contract.kinds import Engine, Result, Task


class _Kept:
    """Holder of an engine's pool beside its options, so that no copy, pickle or comparison of the engine sees it."""

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self._changing = RLock()

    def of_size(self, workers: int) -> Pool:
        with self._changing:
            if self.pool is None or self.pool.size != workers:
                self.close()
                self.pool = Pool(workers)
            return self.pool

    def close(self) -> None:
        with self._changing:
            if self.pool is not None:
                self.pool.close()
                self.pool = None

    def __reduce__(self) -> tuple[Any, ...]:
        # An engine is pickled with its tasks; processes cannot be, and another process starts its own.
        return (_Kept, ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept)

    __hash__ = None  # type: ignore[assignment]


class Local(Engine):
    """Run parts in processes of this machine; one worker runs them in the calling process.

        [engine]
        kind = "local"

    Maps of several threads share the processes: what one leaves idle, another uses. A part that fails ends its map once
    the parts that have begun are finished; an interrupt ends it at once.
    """

    kind: Literal["local"] = "local"

    # The one thing that an engine holds open. It is a private attribute, not an option: the engine owns it, so it lives
    # as long as the engine does and needs no registry.
    _kept: _Kept = PrivateAttr(default_factory=_Kept)

    def map(
        self, *, function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
    ) -> Iterator[tuple[int, Result]]:
        """Map the function over tasks, as in the contract; with several workers, `function` and tasks are pickled.

        Raises: what the task raised; Failure where a worker process was killed.
        """
        if workers <= 1:
            for position, task in enumerate(tasks):
                yield position, function(task)
        else:
            yield from self._kept.of_size(workers).map(function, tasks)

    def warm(self, *, function: Callable[[Task], object], task: Task, workers: int) -> None:
        if workers > 1:
            self._kept.of_size(workers).warm(function, task)

    def close(self) -> None:
        self._kept.close()
