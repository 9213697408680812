"""Requests in flight of who collects into traces at an address: one object a builder, for whichever host comes next.

Requests are written down some at a time, before the first of them goes out. So what is in flight when a host is lost is
counted, and with it what it was just about to send: never less than a server may have billed.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Self

from orca_recipes.errors import OrcaError
from orca_recipes.objects.objects import Objects
from orca_recipes.store.claims import quiet
from orca_recipes.store.leases import Leases
from orca_recipes.traces.sent_requests import SUFFIX, InFlight, Sending, opened_line

SENT = "sent"
"""Below it at the address: what is in flight, an object a builder."""
GROUP = 16
"""Requests written down together: so many more may be told as perhaps billed twice, for a request less each."""


class SharedSent(InFlight):
    """The requests in flight of one builder; to be used within `with`."""

    def __init__(self, objects: Objects, leases: Leases) -> None:
        super().__init__()
        self._objects, self._leases = objects, leases
        self._key = f"{SENT}/{leases.builder}{SUFFIX}"
        self._coming: dict[bytes, Sending] = {}
        self._is_there = False
        self._sending, self._made, self._sent = threading.Lock(), 0, 0

    def __enter__(self) -> Self:
        # One at a time, so that nothing is taken over twice.
        with self._leases.claimed(SENT, quiet, "waiting for another build, which looks at what was in flight"):
            taken = [one.key for one in self._objects.listed(SENT) if not self._lives(one.key)]
            for key in taken:
                # One that ended since the listing removed it itself: nothing was in flight.
                if self._objects.head(key) is not None:
                    self._read(self._objects.get(key))
            if taken and (self.open or self.untold):
                self._write()
            self._objects.delete(taken)
        return self

    def __exit__(self, *fault: object) -> None:
        # Where another took it over meanwhile, it is that one's to tell.
        if self._leases.has_lapsed:
            return
        self._coming.clear()
        # What cannot be written leaves more to be told than there was.
        with suppress(OrcaError):
            if self.open or self.untold:
                self._write()
            elif self._is_there:
                self._objects.delete([self._key])

    def begin(self, key: bytes, endpoint: str, *, once: bool) -> str:
        """Write down that a request goes out now, unless that was foreseen. Raises: BucketError, ObjectsError."""
        foreseen = self._coming.pop(key, None)
        if foreseen is not None and key not in self.open:
            self.open[key] = Sending(1, endpoint, foreseen.token)
            return foreseen.token
        token = super().begin(key, endpoint, once=once)
        if foreseen is None:
            self._write()
        return token

    def foresee(self, keys: Sequence[bytes]) -> Snapshot:
        """Return what is to be sent to the address before these requests may go out."""
        for key in keys:
            before = self.open.get(key, Sending(0, "", secrets.token_hex(16)))
            self._coming[key] = Sending(before.tries + 1, before.endpoint, before.token)
        return self._snapshot()

    def send(self, snapshot: Snapshot) -> None:
        """Bring a snapshot to the address, unless a later one is there; from any thread. Raises: BucketError,
        ObjectsError."""
        number, data = snapshot
        with self._sending:
            if number > self._sent:
                self._objects.put(self._key, data)
                self._sent, self._is_there = number, True

    def _append(self, line: bytes) -> None:
        # What is not written down is told as more than it was: an answer that is stored says itself that it came.
        pass

    def _lines(self) -> Iterator[bytes]:
        yield from super()._lines()
        for key, sending in self._coming.items():
            yield opened_line(key, sending)

    def _lives(self, key: str) -> bool:
        owner = key.removeprefix(f"{SENT}/").removesuffix(SUFFIX)
        return key == self._key or self._leases.is_alive(owner)

    def _write(self) -> None:
        self.send(self._snapshot())

    def _snapshot(self) -> Snapshot:
        self._made += 1
        return self._made, b"".join(self._lines())


Snapshot = tuple[int, bytes]
"""What is in flight at a moment, and which moment it was."""
