"""One piece of work on another thread, for what waits for the disk or lets go of the interpreter: hashing does.

The thread is a daemon: an interrupt of the main thread ends the process without waiting for a large file.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

Result = TypeVar("Result")

_LOOK_UP_SECONDS = 0.2
"""How long is waited before an interrupt is looked for, as in `run/schedule`."""


class Aside(Generic[Result]):
    """Work that has begun; `result` waits for it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._found: list[Result] = []
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True, name="orca-aside")
        self._thread.start()

    def result(self) -> Result:
        """Wait for the work and return its result. Raises: what the work raised."""
        while self._thread.is_alive():
            self._thread.join(_LOOK_UP_SECONDS)
        if self._error is not None:
            raise self._error
        return self._found[0]

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:
            self._error = error
