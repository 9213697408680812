"""Requests sent and not answered yet, written down before each goes out.

A kill loses what is in flight, though a server may have answered and counted it: asked again, it may be billed twice.
Each process that collects appends to a file of its own, which it holds locked while it lives; the next one takes over
what the dead left. Lines are written, not forced to the disk: they outlive a process, not a machine that loses power.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from orca_recipes.json_text import json_value
from orca_recipes.traces.trace_segments import segments, write_all

SUFFIX = ".sent"
# Lines are only appended, and nearly all say that a request ended: the file is written anew with what is open.
_MOST_BYTES = 1 << 20
"""A file begins anew when so much was appended, with what is open alone."""


@dataclass(frozen=True)
class Sending:
    """A request that nothing came back of.

    tries: sendings of it that may be billed. token: what the last one may have borne, so that a server knows it again.
    counted: whether the last one is among the tries.
    """

    tries: int
    endpoint: str
    token: str
    counted: bool = True


class InFlight(ABC):
    """The requests in flight of one process, and what dead ones left; to be used within `with`.

    Attributes:
        open: by key. untold: key to the sendings of an answered request beyond the first, as long as nobody was told.
    """

    def __init__(self) -> None:
        self.open: dict[bytes, Sending] = {}
        self.untold: dict[bytes, int] = {}

    @abstractmethod
    def __enter__(self) -> Self:
        """Take over what processes left that ended."""

    @abstractmethod
    def __exit__(self, *fault: object) -> None: ...

    def begin(self, key: bytes, endpoint: str, *, once: bool) -> str:
        """Write down that a request goes out now; return the token that it may bear. Raises: OSError.

        once: whether the endpoint answers one token once: then another sending to it is no other request.
        """
        before = self.open.get(key)
        # With the same token the server answers what it answered before: nothing new can be billed.
        if before is not None and once and before.endpoint == endpoint:
            self.open[key] = Sending(before.tries, endpoint, before.token, counted=False)
            return before.token
        tries = 1 if before is None else before.tries + 1
        # Where it went to is not known of what a host was about to send when it ended: it may have been here.
        is_kept = before is not None and once and not before.endpoint
        token = before.token if before is not None and is_kept else secrets.token_hex(16)
        self.open[key] = Sending(tries, endpoint, token)
        self._append(opened_line(key, self.open[key]))
        return self.open[key].token

    def refused(self, key: bytes) -> None:
        """Let the last sending count for nothing: the server said that it did not answer. Raises: OSError."""
        sending = self.open.get(key)
        if sending is not None and sending.counted:
            left = Sending(sending.tries - 1, sending.endpoint, sending.token, counted=False)
            self._set(key, left if left.tries else None)

    def answered(self, key: bytes) -> None:
        """Close a request whose answer is kept; its earlier sendings may be billed as well. Raises: OSError."""
        sending = self.open.pop(key, None)
        if sending is None:
            return
        twice = self.untold.get(key, 0) + sending.tries - 1
        if twice:
            self.untold[key] = twice
        self._append(_closed(key, twice))

    def tell(self, key: bytes) -> int:
        """Return, once, how many sendings of an answered request may be billed beside the first. Raises: OSError."""
        twice = self.untold.pop(key, 0)
        if twice:
            self._append(_closed(key, 0))
        return twice

    def _set(self, key: bytes, sending: Sending | None) -> None:
        if sending is None:
            self.open.pop(key, None)
            self._append(_closed(key, self.untold.get(key, 0)))
        else:
            self.open[key] = sending
            self._append(opened_line(key, sending))

    @abstractmethod
    def _append(self, line: bytes) -> None:
        """Write a line down. Raises: OSError; BucketError, ObjectsError."""

    def _lines(self) -> Iterator[bytes]:
        # A line that closes a key closes what stands before it.
        for key, twice in self.untold.items():
            yield _closed(key, twice)
        for key, sending in self.open.items():
            yield opened_line(key, sending)

    def _read(self, held: bytes) -> None:
        """Add what the lines of a file say; the last of a key stands, and a torn one says nothing."""
        opened: dict[bytes, Sending] = {}
        untold: dict[bytes, int] = {}
        for line in held.splitlines():
            try:
                key, table = _decoded(line)
            except (ValueError, KeyError, TypeError):
                continue
            opened.pop(key, None)
            if "tries" in table:
                opened[key] = Sending(int(table["tries"]), str(table["endpoint"]), str(table["token"]), counted=False)
            elif table["untold"]:
                untold[key] = int(table["untold"])
            else:
                untold.pop(key, None)
        for key, sending in opened.items():
            tries = sending.tries + (self.open[key].tries if key in self.open else 0)
            self.open[key] = Sending(tries, sending.endpoint, sending.token, counted=False)
        for key, twice in untold.items():
            self.untold[key] = self.untold.get(key, 0) + twice


class SentRequests(InFlight):
    """Requests in flight that are written into a folder, as a file a process."""

    def __init__(self, folder: Path) -> None:
        """folder: made with the first line."""
        super().__init__()
        self._folder, self._file, self._size = folder, -1, 0
        self._path: Path | None = None

    def __enter__(self) -> Self:
        if os.access(self._folder, os.W_OK):
            for path in segments(self._folder, SUFFIX):
                self._take_over(path)
        return self

    def __exit__(self, *fault: object) -> None:
        if self._path is not None:
            if not self.open and not self.untold:
                self._path.unlink(missing_ok=True)
            os.close(self._file)

    def _append(self, line: bytes) -> None:
        if self._path is None or self._size > _MOST_BYTES:
            self._begin()
            return
        try:
            write_all(self._file, line)
            self._size += len(line)
        except OSError:
            self._size = _MOST_BYTES + 1  # it may be torn: nothing comes behind it in this file
            raise

    def _begin(self) -> None:
        """Begin a file with all that is open; the one before it goes when this one is there."""
        self._folder.resolve().mkdir(parents=True, exist_ok=True)
        name = f"{secrets.token_hex(8)}{SUFFIX}"
        aside = self._folder / f".{name}"
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        _is_locked(file)
        try:
            # Written and locked before it has its name: nobody takes over a half-made file.
            write_all(file, b"".join(self._lines()))
            # The old file goes after the new one stands: a kill between the two counts twice, and loses nothing.
            aside.rename(self._folder / name)
        except OSError:
            os.close(file)
            aside.unlink(missing_ok=True)
            raise
        before, self._path = self._path, self._folder / name
        if before is not None:
            before.unlink(missing_ok=True)
            os.close(self._file)
        self._file, self._size = file, 0

    def _take_over(self, path: Path) -> None:
        """Take over the requests of a process that ended; files that live, or may not be changed, are left alone."""
        try:
            file = os.open(path, os.O_RDWR)
        except OSError:
            return
        try:
            # Another process may have taken it over between the listing and the lock: then its name is gone.
            if not _is_locked(file) or os.fstat(file).st_nlink == 0:
                return
            self._read(path.read_bytes())
            if self.open or self.untold:
                self._begin()
            path.unlink(missing_ok=True)
        finally:
            os.close(file)


def opened_line(key: bytes, sending: Sending) -> bytes:
    table = {"key": key.hex(), "tries": sending.tries, "endpoint": sending.endpoint, "token": sending.token}
    return json.dumps(table).encode() + b"\n"


def _closed(key: bytes, untold: int) -> bytes:
    return json.dumps({"key": key.hex(), "untold": untold}).encode() + b"\n"


def _decoded(line: bytes) -> tuple[bytes, dict[str, Any]]:
    table = json_value(line)
    return bytes.fromhex(table["key"]), table


def _is_locked(file: int) -> bool:
    """Lock an open file for as long as it is open; False where somebody holds it, or nobody can."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
