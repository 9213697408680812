"""Claims of running builds on the stages they need, so that `clean` leaves these alone.

A build holds one lock as long as its process lives and lists beside it what it needs. A list whose lock nobody holds is
of a build that ended, however it ended: it counts for nothing. Lists change only behind one door, and `clean` stays
behind it while it works, so that a build either is seen by `clean` or sees what `clean` took away.
"""

import secrets
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from orca_recipes.errors import StoreError
from orca_recipes.store.sealed import read_json, write_json

Say = Callable[[str], None]
"""Takes a sentence for the user."""

PATIENCE_SECONDS = 1.0
"""How long a build waits for another one before it says so."""


class Claims:
    """The claims in a folder, and our own among them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._held: FileLock | None = None

    def add(self, names: Iterable[str], say: Say) -> None:
        """Claim stages until `drop`, or until this object or its process ends."""
        new = set(names) - self._names
        if not new:
            return
        wanted = self._names | new
        with self.door(say):
            if self._held is None:
                self.of_others()  # removes what builds that were killed left
                self._held = FileLock(self._folder / f"{secrets.token_hex(8)}.lock")
                self._held.acquire()
                # A build in a notebook ends without its process: the claim goes with the object, or its stages stayed
                # for ever.
                self._forget = weakref.finalize(self, _forget, self._held)
            write_json(_list_of(Path(self._held.lock_file)), {"folders": sorted(wanted)})
            self._names = wanted

    def drop(self) -> None:
        """Claim nothing any more."""
        if self._held is not None:
            self._held, self._names = None, set()
            self._forget()

    @contextmanager
    def door(self, say: Say) -> Iterator[None]:
        """Hold the claims lock: no other process claims or cleans meanwhile."""
        with patiently(self._folder / "door", say, "waiting for `orca-recipe clean`, which works on the same store"):
            yield

    def of_others(self) -> set[str]:
        """Return the fingerprints claimed by other live builds, delete claims of dead ones; hold `door` meanwhile."""
        found: set[str] = set()
        for path in sorted(self._folder.glob("*.lock")):
            # Opened once more, the own lock is held by somebody: our stages would count as another's.
            if self._held is not None and path == Path(self._held.lock_file):
                continue
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                found |= _listed(_list_of(path))
            else:
                _forget(lock)
        return found


def quiet(sentence: str) -> None:
    """Say nothing."""


@contextmanager
def patiently(lock_file: Path, say: Say, sentence: str) -> Iterator[FileLock]:
    """Hold a lock; where another holds it for long, say a sentence and wait on."""
    lock = FileLock(lock_file)
    try:
        # Most waits are shorter than a blink, and a sentence about each would make people look for a fault.
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        say(sentence)
        lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


def _list_of(lock_file: Path) -> Path:
    return lock_file.with_suffix(".json")


def _listed(path: Path) -> set[str]:
    try:
        return set(read_json(path)["folders"])
    except (StoreError, KeyError, TypeError):
        return set()  # it holds the lock and has claimed nothing yet


def _forget(lock: FileLock) -> None:
    """Remove a claim: its files go before its lock, so that nobody ever holds a lock without a name. Where they cannot
    be removed, they count for nothing."""
    path = Path(lock.lock_file)
    with suppress(OSError):
        _list_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    lock.release()
