"""Claims on requests being asked right now by builds on this machine.

A build holds one lock as long as its process lives; claims of builds that ended, however they ended, count for nothing.
Builds on other machines are not seen: two of them may buy one answer each, and the earlier one serves both.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from orca_recipes.traces.trace_index import Index


class KeyClaims:
    """Our claims, released at the end."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._owner = secrets.token_hex(8)
        self._lock = None if index.path is None else FileLock(_lock_file(index.path, self._owner))

    def __enter__(self) -> Self:
        if self._lock is not None:
            Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        self.release_of_the_dead()
        return self

    def __exit__(self, *fault: object) -> None:
        self._index.release(self._owner)
        if self._lock is not None:
            with suppress(OSError):
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def claim(self, keys: Sequence[bytes]) -> set[bytes]:
        """Claim keys and return those that are ours to ask."""
        return self._index.claim(keys, self._owner)

    def release_of_the_dead(self) -> None:
        """Drop claims of builds that ended."""
        if self._index.path is None:
            return
        for owner in self._index.owners() - {self._owner}:
            lock = FileLock(_lock_file(self._index.path, owner))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            self._index.release(owner)
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _lock_file(index: Path, owner: str) -> Path:
    return index.with_suffix(".claims") / f"{owner}.lock"
