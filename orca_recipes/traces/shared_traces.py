"""The trace store at an address, which several hosts share; a folder here is its cache.

An answer is stored when its segment at the address holds it. Until then it lies in a journal of this machine, so that
an address that is out of reach costs no answer. A segment grows by writes that replace the very object that their one
writer saw: a write that arrives late changes nothing, and the begin of a segment is the same for ever, as that of a
file which is appended to. What a run left in its journal goes up behind what others bought meanwhile, as if imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orca_recipes.errors import ObjectsError, TraceError
from orca_recipes.json_text import json_value
from orca_recipes.objects.address import Address, address_of, is_address
from orca_recipes.objects.copies import cache_of, side_by_side
from orca_recipes.objects.marker import mark_address
from orca_recipes.objects.objects import ObjectFacts, Objects
from orca_recipes.shards.files import sync_folder
from orca_recipes.store.claims import Say
from orca_recipes.store.leases import Leases, lease_seconds
from orca_recipes.store.sealed import write_json
from orca_recipes.traces.trace_segments import IMPORTED, SUFFIX, new_segment_name, segments, write_all

MARKER = "orca-traces.json"
"""The object of a trace store that says what it is."""
REMOTE = "remote.json"
"""The file of a cache that names the address."""
SEGMENTS, DROPPED, SENT = "segments", "dropped", "sent"
UNSENT = "unsent"
"""The folder of a cache where answers lie on their way to the address."""
PAUSE_SECONDS = 0.5
"""From one write to the next: what comes meanwhile goes together, so that a day's answers are no million requests."""

_PREFIXES = (SEGMENTS, DROPPED, SENT, "claims", "running")
# Each write of a segment writes all of it: these bound what is written again, and the number of objects.
_SEGMENT_BYTES = 1 << 20
_SEGMENT_WRITES = 64


@dataclass(frozen=True)
class SharedTraces:
    """The traces at an address; root: the cache of this machine."""

    root: Path
    objects: Objects

    @cached_property
    def leases(self) -> Leases:
        """Return our record and claims at the address; there are none before they are used."""
        return Leases(self.objects, lease_seconds())

    def pull(self) -> None:
        """Fetch what segments and lists of dropped answers gained. Raises: BucketError, ObjectsError."""
        for folder in (SEGMENTS, DROPPED):
            found = [one for one in self.objects.listed(folder) if one.key.count("/") == 1]
            wanted = [one.key for one in found if _size(self.root / one.key) < one.bytes]
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            side_by_side(lambda key: self.objects.fetch(key, self.root / key), wanted)

    @contextmanager
    def asking(self, sampling: Mapping[str, Any], say: Say) -> Iterator[None]:
        """Be the one who asks a model with these options: its requests are nobody else's. Another one is waited for.

        Raises: BucketError, ObjectsError.
        """
        told = json.dumps(dict(sampling), sort_keys=True).encode()
        name = f"ask-{hashlib.blake2b(told, digest_size=8).hexdigest()}"
        with self.leases.claimed(name, say, "waiting for another build, which asks the same teacher"):
            self.leases.forget_dead()
            self._send_left()
            self.pull()
            yield

    def refuse_lapsed(self) -> None:
        """Raise TraceError where another may have taken over what we ask."""
        if self.leases.has_lapsed:
            raise TraceError(
                f"the traces at {self.objects.address}: nothing was heard of this build there for longer than its "
                "lease, and another may ask in its place; its answers are kept: run the same command again"
            )

    def publish(self, folder: str, name: str, data: bytes) -> None:
        """Bring a whole file to the address and here. Raises: BucketError, ObjectsError."""
        if not self.objects.create(f"{folder}/{name}", data):
            raise ObjectsError(f"{self.objects.address}/{folder}/{name} is there already; run the same command again")
        self.keep(f"{folder}/{name}", data)

    def keep(self, key: str, data: bytes) -> None:
        """Have an object in the cache, too, whole; where it cannot be written, it is fetched later on."""
        # A process beside this one may fetch it at the same moment.
        aside = self.root / Path(key).parent / f".{secrets.token_hex(6)}.{Path(key).name}"
        with suppress(OSError):
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            aside.replace(self.root / key)

    def close(self) -> None:
        """Give back our record and claims, where there are any."""
        if "leases" in vars(self):
            self.leases.drop()

    def _send_left(self) -> None:
        """Send what runs of this machine that ended had not brought to the address."""
        for path in segments(self.root / UNSENT):
            owner, _, name = path.name.partition("-")
            if owner == self.leases.builder or self.leases.is_alive(owner):
                continue
            # Another process of this machine may send it at the same moment: then it is gone, or there twice.
            with suppress(FileNotFoundError):
                there = self.objects.head(f"{SEGMENTS}/{name}")
                left = path.read_bytes()[0 if there is None else there.bytes :]
                whole = left[: left.rfind(b"\n") + 1]
                # Of one name, so that it goes up once though a run is killed before the journal is removed.
                behind = f"{name.removesuffix(SUFFIX)}{IMPORTED}"
                if whole and not self.objects.create(f"{SEGMENTS}/{behind}", whole):
                    self.publish(SEGMENTS, new_segment_name(IMPORTED), whole)
                path.unlink()


class SharedWriter:
    """Appends answers: to a journal here, then to the address. One writer a process, from one thread at a time."""

    def __init__(self, shared: SharedTraces) -> None:
        self._shared = shared
        self._segment: _Segment | None = None
        self._left, self._journals = b"", list[Path]()

    def append(self, lines: bytes) -> None:
        """Bring whole lines to the address. Raises: OSError; BucketError, ObjectsError, and then they lie in the
        journal, and go up with what comes next, or with the next run of this machine."""
        if self._segment is None or self._segment.is_full:
            self._begin()
        assert self._segment is not None
        try:
            self._segment.append(lines)
        except BaseException:
            # What became of a write that failed is not known: its lines go up in another segment.
            self._left = self._segment.unpublished
            self._journals.append(self._segment.journal)
            self.close()
            raise

    def close(self) -> None:
        """Let go of the journal, which is removed where all of it is at the address."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _begin(self) -> None:
        self.close()
        self._segment = _Segment.begun(self._shared)
        if self._left:
            self._segment.note(self._left)
            self._left = b""
        while self._journals:
            self._journals.pop().unlink(missing_ok=True)


@dataclass
class _Segment:
    """A segment that grows: its journal here, and what the address holds of it."""

    shared: SharedTraces
    name: str
    journal: Path
    file: int
    held: bytearray
    published: int = 0
    writes: int = 0
    seen: ObjectFacts | None = None

    @classmethod
    def begun(cls, shared: SharedTraces) -> _Segment:
        name = new_segment_name(SUFFIX)
        folder = shared.root / UNSENT
        folder.mkdir(parents=True, exist_ok=True)
        journal = folder / f"{shared.leases.builder}-{name}"
        file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        sync_folder(folder)
        return cls(shared, name, journal, file, bytearray())

    @property
    def is_full(self) -> bool:
        return len(self.held) >= _SEGMENT_BYTES or self.writes >= _SEGMENT_WRITES

    @property
    def unpublished(self) -> bytes:
        return bytes(self.held[self.published :])

    def note(self, lines: bytes) -> None:
        """Bring lines to the journal. Raises: OSError, and then nothing of them counts."""
        try:
            write_all(self.file, lines)
            os.fsync(self.file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.file, len(self.held))
            raise
        self.held += lines

    def append(self, lines: bytes) -> None:
        self.note(lines)
        objects, key, data = self.shared.objects, f"{SEGMENTS}/{self.name}", bytes(self.held)
        if self.seen is None:
            is_written = objects.create(key, data)
        elif objects.address.scheme == "file":
            # A folder cannot compare; nobody else writes this name, and no write to it arrives late.
            objects.put(key, data)
            is_written = True
        else:
            is_written = objects.replace(key, data, self.seen)
        if not is_written:
            raise ObjectsError(f"{objects.address / key} is another by now; run the same command again")
        self.published, self.writes = len(data), self.writes + 1
        self.shared.keep(f"{SEGMENTS}/{self.name}", data)
        self.seen = objects.head(key)

    def close(self) -> None:
        os.close(self.file)
        if self.published == len(self.held):
            self.journal.unlink(missing_ok=True)


def traces_place(place: str | Path) -> Path:
    """Return the folder traces are worked on in: the folder itself, or this machine's cache of an address.

    Raises: as `shared_traces_root`.
    """
    return shared_traces_root(place) if isinstance(place, str) and is_address(place) else Path(place)


def shared_traces_root(url: str) -> Path:
    """Return this machine's cache of the trace store at an address; an empty address is made one.

    Raises: BucketError, ObjectsError where the address cannot be used; NoStore where it holds something else.
    """
    objects = Objects.at(url)
    mark_address(
        objects,
        marker=MARKER,
        content=f"{json.dumps({'traces': 'of orca-recipe: answers that were bought'})}\n".encode(),
        prefixes=_PREFIXES,
        what="trace store",
        options="--traces or ORCA_TRACES",
    )
    root = cache_of(objects.address, "traces")
    root.mkdir(parents=True, exist_ok=True)
    if address_of_traces(root) != objects.address:
        write_json(root / REMOTE, {"address": str(objects.address)})
    return root


def shared_traces(root: Path) -> SharedTraces | None:
    """Return the shared traces of a cache folder; None for traces of their own."""
    address = address_of_traces(root)
    return None if address is None else SharedTraces(root, Objects(address))


def address_of_traces(root: Path) -> Address | None:
    """Return the address of a cache folder; None for traces of their own. Raises: TraceError for a damaged note."""
    try:
        told = (root / REMOTE).read_bytes()
    except OSError:
        return None
    try:
        return address_of(str(json_value(told)["address"]))
    except (ValueError, KeyError, TypeError) as fault:
        raise TraceError(f"{root / REMOTE} cannot be read; remove it and run the same command again") from fault


def traces_name(root: Path) -> str:
    """Return the user's name for traces: their folder, or the address it is a cache of."""
    return str(address_of_traces(root) or root)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
