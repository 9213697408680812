"""A folder here that is a copy of files at an address: each comes when it is first opened, and is held to its digest.

Beside the folder lies `copy.json`: the address, and of each file its size and its digest. Whoever opens a file by its
path alone calls `at_hand` first; in a folder that is no copy that costs one look whether the file is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from orca_recipes.errors import ObjectsError
from orca_recipes.json_text import json_value
from orca_recipes.objects.address import Address, address_of
from orca_recipes.objects.objects import Objects

NAME = "copy.json"
_PROGRAM = "orca-recipes"
_DEEPEST = 3
"""How many folders deep a file of a copy lies at most."""
# Small objects take as long as their way there and back, so several go at once; each holds its parts in memory.
_AT_ONCE = 8

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class PromisedFile:
    """The promise for a file at an address: its size, and its digest as "blake2b:<64 hex>"."""

    bytes: int
    digest: str


@dataclass(frozen=True)
class Copy:
    """A folder and the address that it is a copy of; files: by their paths in both."""

    folder: Path
    address: Address
    files: Mapping[str, PromisedFile]

    @property
    def objects(self) -> Objects:
        return Objects(self.address)

    def keep(self) -> None:
        """Write down beside the folder what it is a copy of."""
        files = {path: [file.bytes, file.digest] for path, file in sorted(self.files.items())}
        text = json.dumps({"address": str(self.address), "files": files}, indent=1)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: several processes may make the same copy at once.
        aside = self.folder.parent / f".{secrets.token_hex(6)}.{NAME}"
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, self.folder.parent / NAME)

    def bring(self, paths: Iterable[str]) -> None:
        """Fetch those files that are not here. Raises: as `at_hand`."""
        side_by_side(self._bring, [path for path in paths if not (self.folder / path).exists()])

    def bring_again(self, paths: Iterable[str]) -> None:
        """Have those files here as they are at the address, whatever their digests: for whoever judges them.

        Raises: ObjectsError where one is there and cannot be fetched; one that is gone stays missing.
        """
        side_by_side(self._bring_as_it_is, [path for path in paths if not self._is_sound(path)])

    def _bring(self, path: str) -> None:
        target, promised = self.folder / path, self.files[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: several processes may fetch the same file at once.
        aside = target.with_name(f".{secrets.token_hex(6)}.{target.name}")
        try:
            self.objects.fetch(path, aside)
            if _digest(aside) != promised.digest:
                raise ObjectsError(
                    f"{self.address / path} is not what its manifest promises; build it again or put a sound copy there"
                )
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)

    def _bring_as_it_is(self, path: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if self.objects.head(path) is not None:
            self.objects.fetch(path, target)

    def _is_sound(self, path: str) -> bool:
        try:
            return _digest(self.folder / path) == self.files[path].digest
        except OSError:
            return False


def copy_of(folder: Path) -> Copy | None:
    """Read the note beside a folder that is a copy; None where the folder is no copy."""
    try:
        told: Mapping[str, Any] = json_value((folder.parent / NAME).read_bytes())
        files = {str(path): PromisedFile(int(size), str(digest)) for path, (size, digest) in told["files"].items()}
        return Copy(folder, address_of(str(told["address"])), files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def at_hand(path: Path) -> Path:
    """Fetch a file of a copy, where it is not here; of any other folder nothing is asked. Gives the path itself.

    Raises: BucketError, ObjectsError where it cannot be fetched, or is not what was promised.
    """
    if path.exists():
        return path
    for folder in list(path.parents)[:_DEEPEST]:
        copy = copy_of(folder)
        if copy is not None:
            name = path.relative_to(folder).as_posix()
            if name in copy.files:
                copy.bring([name])
            break
    return path


def cache_of(address: Address, what: str) -> Path:
    """Return this machine's folder for files fetched from an address: below ORCA_CACHE, else this user's cache."""
    named = os.environ.get("ORCA_CACHE")
    base = Path(named) if named else platformdirs.user_cache_path(_PROGRAM, appauthor=False)
    key = hashlib.blake2b(str(address).encode(), digest_size=8).hexdigest()
    return (base / what / f"{address.name or address.bucket}-{key}").absolute()


def side_by_side(function: Callable[[_Item], object], items: Collection[_Item]) -> None:
    """Do for each item what waits for answers most of the time, several at once. Raises: what the first raised."""
    if len(items) < 2:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # pool.map raises an item's fault only when its result is read.
        for _ in pool.map(function, items):
            pass


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"blake2b:{hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()}"
