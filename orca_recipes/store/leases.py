"""Leases on a store of several hosts, in place of a lock held by any one host.

A builder writes one record at the address, of what it needs, and writes it again several times within its lease. By the
store's own clock a record that is older than the lease is of a builder that ended, however it ended. What a builder
makes it claims by an object that it alone creates; where the claim's builder is no longer alive, another takes it over
by replacing the very object that it saw. A builder that slept past its lease does no harm when it wakes: parts are
the same bytes whoever makes them, and are known by their digests.

`clean` closes a door first and then reads all records; a builder writes its record first and then looks at the door. So
one of them sees the other: `clean` spares what the builder needs, or the builder waits and then looks at what is left.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from orca_recipes.errors import ObjectsError, OrcaError, StoreError
from orca_recipes.json_text import json_value
from orca_recipes.objects.objects import ObjectFacts, Objects
from orca_recipes.store.claims import PATIENCE_SECONDS, Say

# How long others wait for a builder that died; a shorter lease is written more often.
LEASE_SECONDS = 60.0
_BEATS = 4
"""How often a record is written within a lease: three may fail."""
_DOOR = "door.json"
_PAUSE_SECONDS = (0.2, 2.0)
"""How long to wait before another's claim is looked at again: at first, and at most."""
# A machine that was suspended slept past its lease, of which the monotonic clock of Linux knows nothing.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_seconds() -> float:
    """Read the length of a lease: ORCA_LEASE_SECONDS, else a minute. Raises: StoreError where it is no length."""
    told = os.environ.get("ORCA_LEASE_SECONDS")
    try:
        found = LEASE_SECONDS if told is None else float(told)
    except ValueError:
        found = 0.0
    if not 1 <= found <= 3600:
        raise StoreError(f"ORCA_LEASE_SECONDS is {told}: say how long a lease is, from 1 to 3600 seconds")
    return found


class Leases:
    """The records and claims at an address, and our own among them."""

    def __init__(self, objects: Objects, lease_seconds: float = LEASE_SECONDS) -> None:
        self._objects, self.lease_seconds = objects, lease_seconds
        self._changing = threading.RLock()
        self._names: set[str] = set()
        self._claims: dict[str, dict[str, str]] = {}
        self._beating: _Beating | None = None

    @property
    def builder(self) -> str:
        """Return the name of our record, written now where it is not there yet."""
        with self._changing:
            if self._beating is None:
                self._beat()
            assert self._beating is not None
            return self._beating.name

    @property
    def has_lapsed(self) -> bool:
        """Tell whether our record was once not written for a whole lease: others may have taken us for dead."""
        return self._beating is not None and self._beating.has_lapsed

    def add(self, names: Iterable[str], say: Say) -> bool:
        """Have others know what we need, until `drop` or as long as this process lives; say whether that was news.

        Whoever cleans the store is waited for.
        """
        with self._changing:
            wanted = self._names | set(names)
            if wanted == self._names and self._beating is not None:
                return False
            self._names = wanted
            self._beat()
        self._wait(_DOOR, say, "waiting for `orca-recipe clean`, which works on the same store")
        return True

    def drop(self) -> None:
        """Need nothing any more."""
        with self._changing:
            if self._beating is not None:
                self._beating.end()
            self._names, self._beating = set(), None

    @contextmanager
    def claimed(self, folder: str, say: Say, sentence: str) -> Iterator[None]:
        """Be the one builder of a stage; another that lives is waited for, and the sentence said meanwhile."""
        with self._holding(f"claims/{folder}.json", say, sentence):
            yield

    def holds(self, folder: str) -> bool:
        """Tell whether a claim of ours is ours still. After a lapse it is claimed anew, unless another took it over."""
        key = f"claims/{folder}.json"
        with self._changing:
            if not self.has_lapsed:
                return True
            assert self._beating is not None
            self._beating.begin_anew()
            seen, claim = self._objects.head(key), self._claim()
            is_ours = seen is not None and self._told(key) == self._claims.get(key)
            # It is another object from now on: whoever took us for dead and saw the last one cannot replace it.
            if seen is not None and is_ours and self._objects.replace(key, json.dumps(claim).encode(), seen):
                self._claims[key] = claim
                return True
            self._beating.lose()
            return False

    @contextmanager
    def door(self, say: Say) -> Iterator[None]:
        """Keep builders from beginning to need something."""
        with self._holding(_DOOR, say, "waiting for `orca-recipe clean`, which works on the same store"):
            yield

    def of_others(self) -> set[str]:
        """Return the folders other living builders need, and delete the records of dead ones. Hold `door` meanwhile."""
        return {str(folder) for told in self._others() for folder in told.get("folders", ())}

    def has_others(self) -> bool:
        """Tell whether any other builder lives. Hold `door` meanwhile."""
        return bool(self._others())

    def forget_dead(self) -> None:
        """Remove the records of builders that ended without doing so themselves."""
        self._others()

    def _others(self) -> list[dict[str, Any]]:
        """Return the records of other living builders; those of dead ones are removed."""
        found: list[dict[str, Any]] = []
        for one in self._objects.listed("running"):
            name = one.key.removeprefix("running/").removesuffix(".json")
            if self._beating is not None and name == self._beating.name:
                continue
            told = self._told(one.key)
            if told is None or self._is_fresh(one, told):
                found.append(told or {})
            else:
                self._objects.delete([one.key])
        return found

    @contextmanager
    def _holding(self, key: str, say: Say, sentence: str) -> Iterator[None]:
        claim = self._claim()
        data = json.dumps(claim).encode()
        while not self._objects.create(key, data):
            seen = self._wait(key, say, sentence)
            if seen is not None and self._objects.replace(key, data, seen):
                break
        self._claims[key] = claim
        try:
            yield
        finally:
            claim = self._claims.pop(key)
            # One that was taken over meanwhile is another's. What cannot be removed ends with our lease.
            with suppress(OrcaError):
                if self._told(key) == claim:
                    self._objects.delete([key])

    def _claim(self) -> dict[str, str]:
        """Make a claim of ours, with a token of its own: one that another took over is never deleted as ours."""
        return {"builder": self.builder, "host": platform.node(), "claim": secrets.token_hex(8)}

    def _wait(self, key: str, say: Say, sentence: str) -> ObjectFacts | None:
        """Wait until a claim is gone (None) or its builder is dead: then the claim as it was seen."""
        begun, pause, is_said = time.monotonic(), _PAUSE_SECONDS[0], False
        while True:
            seen = self._objects.head(key)
            told = None if seen is None else self._told(key)
            if seen is None:
                return None
            # Ours is one that could not be removed: in this process a lock keeps two from one stage.
            if told is None or self._is_ours(told) or not self.is_alive(str(told.get("builder"))):
                return seen
            if not is_said and time.monotonic() - begun > PATIENCE_SECONDS:
                say(f"{sentence} (on {told.get('host')})")
                is_said = True
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS[1])

    def _is_ours(self, told: dict[str, Any]) -> bool:
        return self._beating is not None and told.get("builder") == self._beating.name

    def is_alive(self, builder: str) -> bool:
        """Tell whether a builder lives, by its record."""
        key = f"running/{builder}.json"
        seen = self._objects.head(key)
        told = None if seen is None else self._told(key)
        return seen is not None and told is not None and self._is_fresh(seen, told)

    def _is_fresh(self, seen: ObjectFacts, told: dict[str, Any]) -> bool:
        with self._changing:
            if self._beating is None:
                self._beat()
            assert self._beating is not None
            now = self._beating.now()
        # A store tells whole seconds.
        return now - seen.modified <= timedelta(seconds=float(told.get("lease_seconds", LEASE_SECONDS)) + 1)

    def _told(self, key: str) -> dict[str, Any] | None:
        """Read a record or claim; None where it is gone or is none. Raises: BucketError, ObjectsError."""
        try:
            found = json_value(self._objects.get(key))
        except ValueError:
            return None
        except ObjectsError:
            # What cannot be read just now is no sign that its builder died.
            if self._objects.head(key) is not None:
                raise
            return None
        return found if isinstance(found, dict) else None

    def _beat(self) -> None:
        """Write our record now, and again and again from then on."""
        if self._beating is None:
            self._beating = _Beating(self._objects, self.lease_seconds)
            # A dropped `Leases` gives its record back; the thread itself keeps only `_Beating` alive.
            weakref.finalize(self, self._beating.end)
        self._beating.tell(self._names)


class _Beating:
    """Writes our record from a thread that holds no reference to `Leases`, its owner."""

    def __init__(self, objects: Objects, lease_seconds: float) -> None:
        self.name = secrets.token_hex(8)
        self._objects, self._lease_seconds = objects, lease_seconds
        self._key = f"running/{self.name}.json"
        self._names: list[str] = []
        self._clock: tuple[datetime, float] | None = None
        self._written: float | None = None
        self._is_late = False
        self._writing, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, names: set[str]) -> None:
        """Write what we need. Raises: BucketError, ObjectsError."""
        self._names = sorted(names)
        self._write()
        if self._thread is None:
            self._thread = threading.Thread(target=self._go_on, daemon=True, name="lease")
            self._thread.start()

    def now(self) -> datetime:
        """Estimate the store's own time: its clock when it last took our record, plus the time since."""
        assert self._clock is not None, "the record was written"
        told, then = self._clock
        return told + timedelta(seconds=time.clock_gettime(_CLOCK) - then)

    @property
    def has_lapsed(self) -> bool:
        """Tell whether a lease passed between two writings, or since the last."""
        self._look_at_clock()
        return self._is_late

    def _look_at_clock(self) -> None:
        # What is written after that makes nothing undone: somebody else may have begun in between.
        if self._written is not None and time.clock_gettime(_CLOCK) - self._written > self._lease_seconds:
            self._is_late = True

    def begin_anew(self) -> None:
        """Write our record and forget that it was late; what lapses afterwards is seen. Raises: as `tell`."""
        self._write(anew=True)

    def lose(self) -> None:
        """Count as late from now on."""
        self._is_late = True

    def end(self) -> None:
        """Write no more, and remove the record; what cannot be removed counts for nothing when the lease is over."""
        if not self._ended.is_set():
            self._ended.set()
            with suppress(OrcaError), self._writing:
                self._objects.delete([self._key])

    def _go_on(self) -> None:
        while not self._ended.wait(self._lease_seconds / _BEATS):
            with suppress(OrcaError):
                self._write()

    def _write(self, *, anew: bool = False) -> None:
        record = {"folders": self._names, "host": platform.node(), "lease_seconds": self._lease_seconds}
        with self._writing:
            if self._ended.is_set():
                return
            self._look_at_clock()
            began = time.clock_gettime(_CLOCK)
            self._objects.put(self._key, json.dumps(record).encode())
            self._written = began
            if anew:
                self._is_late = False
            seen = self._objects.head(self._key)
            if seen is not None:
                self._clock = (seen.modified, time.clock_gettime(_CLOCK))
