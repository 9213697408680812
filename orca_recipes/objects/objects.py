"""The objects below an address, as everything here reads and writes them, through one library (obstore).

A write is whole or not there. Whether an object was there, or is still the one that was seen, is asked by the write
itself, so that the store decides between two who write at once. What a request loses on the way is tried again; a write
that is tried again may meet what it wrote itself a moment ago, and knows it by its bytes.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from orca_recipes.errors import BucketError, ObjectsError, PluginError
from orca_recipes.objects.address import Address, address_of
from orca_recipes.objects.faults import endpoint, told, told_plainly

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_Result = TypeVar("_Result")

TRIES_SECONDS = 120
"""How long a request that meets a busy server or a broken connection is tried again: a server may be started anew."""
_FIRST_TRIES = 3
"""How often the first request to a place is tried again: a name that is wrong is told within a second."""
_WHOLE_TRIES = 3
"""How often a whole transfer is begun anew, when it broke beyond what the library tries again by itself."""
PART_BYTES = 8 * 2**20
"""How much goes up in one request. S3 takes no part below 5 MiB but the last; parts on their way are held in memory."""
_PARTS_AT_ONCE = 4


@dataclass(frozen=True)
class ObjectFacts:
    """A store's facts of an object: key below the address, size, etag, and time of writing by the store's own clock."""

    key: str
    bytes: int
    etag: str | None
    modified: datetime
    version: str | None = None


@dataclass(frozen=True)
class Objects:
    """The objects below an address. It is picklable and holds nothing open: a process connects when it first asks."""

    address: Address

    @classmethod
    def at(cls, url: str) -> Objects:
        """Raises: BucketError where that is no address; PluginError where the client is not installed."""
        need_client()
        return cls(address_of(url))

    def check(self) -> None:
        """Ask for anything at all, with little patience, so that a fault of the place shows at once.

        Raises: BucketError where the bucket is missing or there are no credentials; ObjectsError where nothing answers.
        """
        import obstore

        def asked() -> None:
            with told_plainly(self.address, "read"):
                next(iter(obstore.list(self._store(hasty=True), chunk_size=1)), None)

        _anew(asked)

    def get(self, key: str, *, etag: str | None = None) -> bytes:
        """Read all bytes of an object.

        Args:
            etag: of the object as it was seen; another one is a fault.
        Raises: ObjectsError where it is not there, is another by now, or cannot be read.
        """
        return self._read(key, lambda result: bytes(result.bytes()), {"if_match": etag} if etag else {})

    def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Read the bytes of an object from start to stop. Raises: as `get`; ObjectsError where it is shorter."""
        if stop <= start:
            return b""
        options = {"range": (start, stop), **({"if_match": etag} if etag else {})}
        found = self._read(key, lambda result: bytes(result.bytes()), options)
        if len(found) != stop - start:
            raise ObjectsError(
                f"{self.address / key} ends before byte {stop}; it is not the object that it was taken for"
            )
        return found

    def fetch(self, key: str, path: Path, *, etag: str | None = None) -> ObjectFacts:
        """Write an object to a file: aside, then renamed. Raises: as `get`; OSError where it cannot be written."""
        aside = path.with_name(f".{secrets.token_hex(6)}.{path.name}")

        def written(result: Any) -> ObjectFacts:
            size = 0
            with aside.open("wb") as file:
                for chunk in result.stream(min_chunk_size=2**20):
                    size += file.write(chunk)
            facts = _facts(result.meta)
            if size != facts.bytes:
                raise ObjectsError(f"{self.address / key}: it ends after {size} of {facts.bytes} bytes; fetch it again")
            return ObjectFacts(key, facts.bytes, facts.etag, facts.modified, facts.version)

        try:
            found = self._read(key, written, {"if_match": etag} if etag else {})
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        return found

    def head(self, key: str, *, hasty: bool = False) -> ObjectFacts | None:
        """Return the store's facts of an object, None where it is not there.

        Args:
            hasty: with little patience, as `check`.
        Raises: BucketError, ObjectsError.
        """
        import obstore

        try:
            with told_plainly(self.address / key, "read"):
                return _facts(obstore.head(self._store(hasty=hasty), key), key)
        except FileNotFoundError:
            return None

    def listed(self, prefix: str = "") -> list[ObjectFacts]:
        """List all objects below a prefix (whole parts of a path), sorted by key.

        Raises: BucketError, ObjectsError.
        """
        import obstore

        def asked() -> list[ObjectFacts]:
            with told_plainly(self.address / prefix, "listed"):
                chunks = obstore.list(self._store(), prefix=prefix or None, chunk_size=1000)
                return sorted((_facts(meta) for chunk in chunks for meta in chunk), key=lambda facts: facts.key)

        return _anew(asked)

    def create(self, key: str, data: bytes) -> bool:
        """Write an object where there is none; False where another is there. Raises: BucketError, ObjectsError."""
        from obstore.exceptions import AlreadyExistsError

        try:
            self._put(key, data, mode="create")
        except AlreadyExistsError:
            return self._is_written(key, data)
        return True

    def replace(self, key: str, data: bytes, seen: ObjectFacts) -> bool:
        """Write an object in place of the very one that was seen; False where it is another by now, or gone.

        A folder cannot be asked that: of two who try at one moment, both may be told that they did it.
        Raises: BucketError, ObjectsError.
        """
        from obstore.exceptions import PreconditionError

        if self.address.scheme == "file":
            if self.head(key) != seen:
                return self._is_written(key, data)
            self.delete([key])
            return self.create(key, data)
        mode = {name: known for name, known in (("e_tag", seen.etag), ("version", seen.version)) if known}
        try:
            self._put(key, data, mode=mode)
        except (PreconditionError, FileNotFoundError):
            return self._is_written(key, data)
        return True

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whatever is there. Raises: BucketError, ObjectsError."""
        self._put(key, data, mode="overwrite")

    def upload(self, key: str, path: Path, *, allowed: Callable[[], None] = lambda: None) -> None:
        """Write a file as an object, in several parts where it is large; nothing is there before all is.

        Args:
            allowed: called before each part and once all are read; what it raises leaves nothing there.
        Raises: BucketError, ObjectsError; OSError where the file cannot be read.
        """
        import obstore

        def parts(file: BinaryIO) -> Iterator[bytes]:
            while part := file.read(PART_BYTES):
                allowed()
                yield part
            allowed()

        if path.stat().st_size <= PART_BYTES:
            allowed()
            self.put(key, path.read_bytes())
            return
        for tried in range(1, _WHOLE_TRIES + 1):
            try:
                with told_plainly(self.address / key, "written"), path.open("rb") as file:
                    obstore.put(
                        self._store(makes=True),
                        key,
                        parts(file),
                        mode="overwrite",
                        chunk_size=PART_BYTES,
                        max_concurrency=_PARTS_AT_ONCE,
                    )
                return
            # Where the answer to the last request was lost, the upload is no longer known: FileNotFoundError. What is
            # there may be ours or an older object of the same size, so all goes up again.
            except (ObjectsError, FileNotFoundError):
                if tried == _WHOLE_TRIES:
                    raise

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are none. Raises: BucketError, ObjectsError."""
        import obstore

        def asked(key: str) -> None:
            with suppress(FileNotFoundError), told_plainly(self.address / key, "removed"):
                obstore.delete(self._store(), key)

        for key in keys:
            _anew(partial(asked, key))

    def _read(self, key: str, taken: Callable[[Any], _Result], options: dict[str, Any]) -> _Result:
        """Read an object, and begin anew where it breaks off on the way."""
        import obstore
        from obstore.exceptions import PreconditionError

        for tried in range(1, _WHOLE_TRIES + 1):
            try:
                with told_plainly(self.address / key, "read"):
                    return taken(obstore.get(self._store(), key, options=options))  # type: ignore[arg-type]
            except FileNotFoundError:
                raise ObjectsError(f"{self.address / key}: there is no such object; check the address") from None
            except PreconditionError:
                raise ObjectsError(
                    f"{self.address / key}: it changed while it was read; run the same command again"
                ) from None
            except ObjectsError:
                if tried == _WHOLE_TRIES:
                    raise
        raise AssertionError

    def _put(self, key: str, data: bytes, mode: Any) -> None:
        import obstore

        with told_plainly(self.address / key, "written"):
            obstore.put(self._store(makes=True), key, data, mode=mode, use_multipart=False)

    def _is_written(self, key: str, data: bytes) -> bool:
        """Tell whether the object holds the bytes we wrote: a request that was tried again may meet its own first
        try."""
        there = self.head(key)
        return there is not None and there.bytes == len(data) and self.get(key) == data

    def _store(self, *, hasty: bool = False, makes: bool = False) -> ObjectStore:
        if makes and self.address.scheme in ("https", "http"):
            raise BucketError(f"{self.address}: the web can be read only; write to s3://BUCKET/PATH, gs:// or az://")
        makes = makes and self.address.scheme == "file"
        return _connected(self.address, endpoint(self.address.scheme), hasty, makes)


def _anew(asked: Callable[[], _Result]) -> _Result:
    """Ask, and ask anew where an answer breaks off: the library tries again only until an answer begins.

    Raises: what the last try raised, or the first that took all the time there is.
    """
    ends = time.monotonic() + TRIES_SECONDS
    for _ in range(_WHOLE_TRIES - 1):
        try:
            return asked()
        except ObjectsError:
            if time.monotonic() > ends:
                raise
    return asked()


def need_client() -> None:
    """Raises: PluginError where the client of object stores is not installed."""
    if find_spec("obstore") is None:
        raise PluginError("addresses of object stores need an extra package: pip install 'orca-recipes[objects]'")


@lru_cache(maxsize=64)
def _connected(address: Address, endpoint: str | None, hasty: bool, makes: bool) -> ObjectStore:
    """Make the library's client of a place; it looks for credentials at its first request, and renews them."""
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, S3Store

    options: ClientConfig = {"allow_http": (endpoint or str(address)).startswith("http://"), "timeout": "60s"}
    retry: RetryConfig = {
        "max_retries": _FIRST_TRIES if hasty else 30,
        "retry_timeout": timedelta(seconds=TRIES_SECONDS),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
    }
    client: dict[str, Any] = {"client_options": options, "retry_config": retry}
    prefix = address.path or None
    try:
        match address.scheme:
            case "s3":
                # The library does not read the variable that names a server for S3 alone.
                named: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
                return S3Store(address.bucket, prefix=prefix, **named, **client)
            case "gs":
                return GCSStore(address.bucket, prefix=prefix, **client)
            case "az":
                return AzureStore(address.bucket, prefix=prefix, **client)
            case "file":
                return LocalStore(Path("/") / address.path, mkdir=makes)
            case _:
                return HTTPStore(str(address), **client)
    except FileNotFoundError:
        raise ObjectsError(f"{address}: there is no such folder; make it, or name another") from None
    except (BaseError, ValueError) as fault:
        raise told(address, "opened", str(fault)) from None


def _facts(meta: Any, key: str | None = None) -> ObjectFacts:
    return ObjectFacts(key or meta["path"], meta["size"], meta["e_tag"], meta["last_modified"], meta["version"])
