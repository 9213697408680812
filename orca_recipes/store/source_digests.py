"""Digests of source files, remembered by path, size, times and inode, so that not every build reads every file.

What was pinned can change before it is read. So a pinning also says what the system told of each file when its digest
was taken, and who reads the file holds that against what the system tells afterwards: content is kept under the
fingerprint of that content, or not at all.

Pins are BLAKE3. A lock or a plan may hold an older one, BLAKE2b: a file that has it is pinned by it again, so that what
was made of the file is known again.
"""

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from orca_recipes.contract.kinds import SourceFile
from orca_recipes.contract.spelling import printable
from orca_recipes.errors import SourceError, StoreError
from orca_recipes.plan.pins import FilePin
from orca_recipes.shards.digests import file_digest
from orca_recipes.store.disk_faults import writing_store
from orca_recipes.store.sealed import digester, promise

Held = TypeVar("Held")

_NONE: Mapping[str, str] = {}
_TABLE = "create table if not exists digests (path text primary key, stamp text not null, digest text not null)"
_SETTLED_NS = 2_000_000_000
"""How long ago a file must have changed for its digest to be remembered: within one tick of the file system's clock it
can change again and be told the same."""
_READ_WHOLE_BYTES = 16 << 20
"""A memory up to this size is read at once: a question for each of thousands of files is most of what pinning costs."""
_KEPT_SECONDS = 1.0
"""How long digests wait to be written: a build that is killed takes no more than those of a second with it."""
_REFUSALS = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
"""What SQLite says of a disk that refuses to be written, in the system's words, which `disk_faults` tells."""


@dataclass(frozen=True)
class Digesting:
    """What takes a digest of a file; `purpose` tells such digests apart in the memory."""

    take: Callable[[Path], str]
    purpose: str


PINS = Digesting(promise, "blake3:")
BLAKE2B = Digesting(file_digest, "")


@dataclass(frozen=True)
class Pinned:
    """A file, its pin, and its stamp when the digest was taken."""

    file: SourceFile
    pin: FilePin
    stamp: str

    def check(self) -> None:
        """Raises: SourceError where the file is no longer what was pinned."""
        try:
            stays = _stamp(self.file.path.stat()) == self.stamp
        except OSError:
            stays = False
        if not stays:
            raise changed(self.file.path)


class FileDigests:
    """Digests of files, with a memory in the store.

    Args:
        rehash: read every file again.
    """

    def __init__(self, path: Path, *, rehash: bool = False, digesting: Digesting = PINS) -> None:
        self._path = path
        self._rehash = rehash
        self._digesting = digesting

    def pin(self, files: Sequence[SourceFile], held: Mapping[str, str] = _NONE) -> tuple[FilePin, ...]:
        """Pin files as `stamped` does."""
        return tuple(found.pin for found in self.stamped(files, held))

    def stamped(self, files: Sequence[SourceFile], held: Mapping[str, str] = _NONE) -> tuple[Pinned, ...]:
        """Pin files with their stamps, in their order. Args and Raises: as `Pinning.stamped`."""
        with self.together() as pinning:
            return pinning.stamped(files, held)

    @contextmanager
    def together(self) -> Iterator["Pinning"]:
        """Pin the files of many sources: the memory is opened once, and written when they are done."""
        pinning = Pinning(self._path, self._digesting, rehash=self._rehash)
        try:
            yield pinning
        finally:
            pinning.end()


class Pinning:
    """A memory of digests while it is open, by the thread that opened it."""

    def __init__(self, path: Path, digesting: Digesting, *, rehash: bool) -> None:
        self._path, self._digesting, self._rehash = path, digesting, rehash
        self._held: sqlite3.Connection | None = None
        self._folders: dict[str, str] = {}
        self._whole: dict[str, tuple[str, str]] | None = None
        self._found: list[tuple[str, str, str]] = []
        self._kept_at = time.monotonic()

    def pin(self, files: Sequence[SourceFile], held: Mapping[str, str] = _NONE) -> tuple[FilePin, ...]:
        """Pin files as `stamped` does."""
        return tuple(found.pin for found in self.stamped(files, held))

    def stamped(self, files: Sequence[SourceFile], held: Mapping[str, str] = _NONE) -> tuple[Pinned, ...]:
        """Pin files with their stamps, in their order.

        Args:
            held: the digests that a lock or a plan has, by name: a file that has its one still is pinned by it.
        Raises: SourceError where one cannot be read, or changes meanwhile; StoreError where the memory cannot be
        written. A memory that is damaged is begun anew.
        """
        return tuple(self._pin(file, held.get(file.name)) for file in files)

    def end(self) -> None:
        """Write what was found, and close the memory. Raises: StoreError where it cannot be written."""
        self._keep()
        self._close()

    def _pin(self, file: SourceFile, held: str | None) -> Pinned:
        if held is not None and digester(held) is BLAKE2B.take:
            found = self._digested(file, BLAKE2B)
            if found.pin.digest == held:
                return found
        return self._digested(file, self._digesting)

    def _digested(self, file: SourceFile, digesting: Digesting) -> Pinned:
        with _readable(file.path):
            status = os.lstat(file.path)
            is_link = stat.S_ISLNK(status.st_mode)
            status = os.stat(file.path) if is_link else status
            key = f"{digesting.purpose}{os.path.realpath(file.path) if is_link else self._real(file.path)}"
        size, stamp = status.st_size, _stamp(status)
        known = None if self._rehash else self._known(key, stamp)
        if known is not None:
            return Pinned(file, FilePin(file.name, size, known), stamp)
        with _readable(file.path):
            found = Pinned(file, FilePin(file.name, size, digesting.take(file.path)), stamp)
        found.check()
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
            self._found.append((key, stamp, found.pin.digest))
            if self._whole is not None:
                self._whole[key] = stamp, found.pin.digest
            if time.monotonic() - self._kept_at > _KEPT_SECONDS:
                self._keep()
        return found

    def _known(self, key: str, stamp: str) -> str | None:
        """Return the digest that is remembered of a file in this state."""
        if self._held is None:
            self._ask(lambda memory: None)
        if self._whole is None:
            return self._ask(lambda memory: _known(memory, key, stamp))
        then, digest = self._whole.get(key, ("", ""))
        return digest if then == stamp else None

    def _real(self, path: Path) -> str:
        """Return the path of what is no link without links; that of a folder is found once for all of its files."""
        folder, name = os.path.split(path)
        if name in ("", ".."):
            return os.path.realpath(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)

    def _keep(self) -> None:
        """Write what was found so far: in one go, as another build may wait for the memory."""
        found, self._found, self._kept_at = self._found, [], time.monotonic()
        if found:
            self._ask(lambda memory: _write(memory, found))

    def _ask(self, work: Callable[[sqlite3.Connection], Held]) -> Held:
        """Do some work on the memory; one that is damaged is begun anew."""
        try:
            with writing_store(self._path.parent), _told_by_the_disk(self._path):
                return work(self._opened())
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"the store cannot be written: {self._path}: {error}; mend this and run the same command again, or "
                "choose another with --store or ORCA_STORE"
            ) from error
        except sqlite3.DatabaseError:
            self._close()
            self._path.unlink(missing_ok=True)
            return work(self._opened())

    def _opened(self) -> sqlite3.Connection:
        """Open the SQLite file of digests; in a read-only store, a copy in memory, which forgets new entries."""
        if self._held is None:
            folder = self._path.parent
            if not folder.is_dir() or os.access(folder, os.W_OK):
                # Another build may hold the database while it writes.
                self._held = sqlite3.connect(self._path, timeout=60)
            else:
                self._held = _copied(self._path)
            with self._held:
                self._held.execute(_TABLE)
            self._whole = self._read_whole(self._held)
        return self._held

    def _read_whole(self, memory: sqlite3.Connection) -> dict[str, tuple[str, str]] | None:
        with suppress(OSError):
            if self._path.stat().st_size <= _READ_WHOLE_BYTES:
                rows = memory.execute("select path, stamp, digest from digests")
                return {path: (then, digest) for path, then, digest in rows}
        return None

    def _close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"{printable(str(path))}: it cannot be read ({error.strerror})") from error


def _copied(path: Path) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:")
    with suppress(sqlite3.Error):
        # immutable: SQLite then needs no lock or journal, which a read-only folder cannot take.
        held = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        with closing(held):
            held.backup(memory)
    return memory


def _known(memory: sqlite3.Connection, key: str, stamp: str) -> str | None:
    found = memory.execute("select digest from digests where path = ? and stamp = ?", (key, stamp)).fetchone()
    return found[0] if found else None


def _write(memory: sqlite3.Connection, found: Sequence[tuple[str, str, str]]) -> None:
    with memory:
        memory.executemany("insert or replace into digests values (?, ?, ?)", found)


@contextmanager
def _told_by_the_disk(path: Path) -> Iterator[None]:
    """Turn SQLite's error about a full or read-only disk into an OSError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _REFUSALS:
            raise
        raise OSError(_REFUSALS[error.sqlite_errorcode], str(error), str(path)) from error


def pinned_as(found: Iterable[Pinned], digests: Mapping[str, str]) -> dict[str, Pinned]:
    """Map files by name, after checking that they are those the plan was made of.

    Args:
        digests: of the plan, by name.
    Raises: SourceError, naming the first file that is another, new or gone.
    """
    by_name = {one.pin.name: one for one in found}
    for name, one in by_name.items():
        if digests.get(name) != one.pin.digest:
            raise changed(one.file.path)
    for name in digests:
        if name not in by_name:
            raise changed(Path(name))
    return by_name


@contextmanager
def unchanged(pinned: Iterable[Pinned]) -> Iterator[None]:
    """Read files that stay as they were pinned. What reading says of a file that changed is not worth telling.

    Raises: SourceError, naming the file that changed; else what reading raises.
    """
    try:
        yield
    except Exception:
        for one in pinned:
            one.check()
        raise
    for one in pinned:
        one.check()


def changed(path: Path) -> SourceError:
    """Create the error for a file that changed since its digest was taken."""
    return SourceError(f"{printable(str(path))}: it changed while it was read; run the same command again")


def _stamp(status: os.stat_result) -> str:
    """Format the file status that tells states of a file apart; it includes the change time, which nobody can set."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino} {status.st_dev}"
