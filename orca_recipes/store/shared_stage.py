"""A stage as all hosts find it: receipts and files below an address, of which a folder here is a cache.

A store at an address (`s3://bucket/path`) is worked on through a folder of this machine that names the address in
`remote.json`. Whatever reads or writes a stage by that folder reaches the address too, in any process:

- `PartWriter.keep` sends a part's files up, then the part's receipt; `StageFolder.finish` sends what is missing there,
  and the stage's receipt last. A file's key ends with its digest, so that nobody ever writes other bytes under a key
  that a receipt names: of two builders of one part, each leaves something whole.
- `Part.file` and `StageFolder.file` fetch a file that is not here yet; receipts come when they are first read. What is
  fetched is held against its digest.

So a part can be made on any node. Whoever runs tasks elsewhere puts the paths in them below `shared_root(address)` of
that node, where `address_of_root` tells the address of a driver's folder; `at_hand` then sees that what a path names is
there. A task that keeps its part has sent it up when it returns, and the driver finds it by its receipt.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

from orca_recipes.errors import ObjectsError, StoreError
from orca_recipes.json_text import json_value
from orca_recipes.objects.address import Address, address_of
from orca_recipes.objects.copies import side_by_side
from orca_recipes.objects.objects import Objects
from orca_recipes.store.sealed import is_promised, read_sealed, write_json

REMOTE = "remote.json"
"""The file of a cache that names the address."""
RECEIPT = "receipt.json"

_READ_BY_NAME = ("tokenizer-", "prepare-")
"""Stages whose files are read by their names in the folder, and not part by part."""
# 64 bits only have to tell apart versions of one file; receipts hold the whole digest.
_DIGEST_DIGITS = 16


class Remote:
    """The address of a cache, with the finished stages this process knows of."""

    def __init__(self, root: Path, address: Address) -> None:
        self.root, self.objects = root, Objects(address)
        self._published: dict[str, datetime] | None = None
        self._changing = RLock()

    def published(self) -> Mapping[str, datetime]:
        """Return finished stages by the name of their folder, with the time when they were finished."""
        with self._changing:
            if self._published is None:
                self.refresh()
            return self._published or {}

    def refresh(self) -> None:
        """Ask anew which stages are finished."""
        found = self.objects.listed("receipts")
        with self._changing:
            self._published = {
                one.key.removeprefix("receipts/").removesuffix(".json"): one.modified
                for one in found
                if one.key.endswith(".json")
            }

    def look_again(self, name: str) -> bool:
        """Ask the address whether a stage is finished by now."""
        found = self.objects.head(_receipt_key(name))
        self.note(name, None if found is None else found.modified)
        return found is not None

    def note(self, name: str, finished: datetime | None) -> None:
        """Remember what became of a stage."""
        self.published()
        with self._changing:
            assert self._published is not None
            if finished is None:
                self._published.pop(name, None)
            else:
                self._published[name] = finished


@dataclass(frozen=True)
class SharedStage:
    """One stage at the address; path: its folder in the cache."""

    remote: Remote
    path: Path

    @property
    def is_published(self) -> bool:
        """Tell whether the stage is finished for all hosts, as far as this process has heard."""
        return self.path.name in self.remote.published()

    @property
    def is_read_by_name(self) -> bool:
        """Tell whether its files are read from the folder, all of them, and not part by part."""
        return self.path.name.startswith(_READ_BY_NAME)

    @property
    def finished_at(self) -> int:
        """Return the time when the stage was finished, in nanoseconds; 0 where it is not."""
        found = self.remote.published().get(self.path.name)
        return 0 if found is None else int(found.timestamp() * 1e9)

    def bring_receipt(self) -> None:
        """Fetch the receipt of a finished stage, where it is not here."""
        if (self.path / RECEIPT).exists():
            return
        if self.is_published or self.remote.look_again(self.path.name):
            self.path.mkdir(parents=True, exist_ok=True)
            self.remote.objects.fetch(_receipt_key(self.path.name), self.path / RECEIPT)

    def bring_part_receipts(self, names: Iterable[str]) -> None:
        """Fetch receipts of parts that are not here; those that are nowhere stay missing.

        Raises: StoreError for a name that leads out of the stage's folder.
        """
        names = list(names)
        if strange := [name for name in names if "/" in name]:
            raise StoreError(
                f"{self.path / RECEIPT} names a part {strange[0]!a}, which is none; build from another store"
            )
        missing = [name for name in names if not self._part_receipt(name).exists()]
        if missing:
            self.path.mkdir(parents=True, exist_ok=True)
            side_by_side(self._bring_part_receipt, missing)

    def bring(self, names: Sequence[str]) -> None:
        """Fetch what is not here of parts. What is damaged at the address, or gone, stays missing."""
        self.bring_part_receipts(names)
        side_by_side(self._bring_file, [one for name in names for one in self._missing(name)])

    def bring_file(self, name: str, part: str | None = None) -> None:
        """Fetch one file, by its name, where a receipt promises it and it is not here.

        Args:
            part: the part that it is of, where that is known.
        Raises: StoreError where it is damaged or gone at the address: then it counts as unfinished for all hosts.
        """
        if part is not None:
            self.bring_part_receipts([part])
        for one in self._parts_of(name) if part is None else [part]:
            for promised in self._missing(one):
                if promised["name"] == name and (fault := self._bring_file(promised)) is not None:
                    # Receipts are believed: without theirs, part and stage are made again by the next build.
                    self.forget(one)
                    self.reopen()
                    raise StoreError(
                        f"{self.remote.objects.address / self._key(promised)} {fault}; "
                        "build again: what is damaged is made again"
                    )

    def pull(self) -> None:
        """Learn what other hosts made of the stage by now: its parts' receipts are fetched."""
        self.remote.look_again(self.path.name)
        prefix = f"stages/{self.path.name}"
        keys = [one.key.removeprefix(f"{prefix}/") for one in self.remote.objects.listed(prefix)]
        self.bring_part_receipts(key.removesuffix(".json") for key in keys if key.endswith(".json"))

    def lacking(self, names: Sequence[str]) -> set[str]:
        """Return the parts without a receipt, or with a file that is neither here nor at the address by its size."""
        if self.is_published:
            self.bring_part_receipts(names)
        missing = {name: self._missing(name) for name in names}
        there: dict[str, int] = {}
        if any(missing.values()):
            there = {one.key: one.bytes for one in self.remote.objects.listed(f"stages/{self.path.name}")}
        return {
            name
            for name, files in missing.items()
            if not self._part_receipt(name).exists()
            or any(there.get(self._key(file)) != file["bytes"] for file in files)
        }

    def send_part(self, name: str) -> None:
        """Send the files of a part that was kept here, then its receipt."""
        receipt = self._part_receipt(name)
        side_by_side(self._send_file, self._files_of(name))
        key, data = f"stages/{self.path.name}/{receipt.name}", receipt.read_bytes()
        if not self.remote.objects.create(key, data):
            # Another's part, of the same rows by another version of a library, or one that is damaged: ours is whole.
            self.remote.objects.put(key, data)

    def send(self, names: Sequence[str]) -> None:
        """Send what the address lacks of a finished stage, its receipt last."""
        prefix = f"stages/{self.path.name}"
        there = {one.key for one in self.remote.objects.listed(prefix)}
        for name in names:
            receipt = self._part_receipt(name)
            wanted = {f"{prefix}/{receipt.name}", *map(self._key, self._files_of(name))}
            if not wanted <= there:
                self.send_part(name)
        self.remote.objects.create(_receipt_key(self.path.name), (self.path / RECEIPT).read_bytes())
        self.remote.look_again(self.path.name)

    def forget(self, name: str) -> None:
        """Have a part count as unfinished, for all hosts."""
        self.remote.objects.delete([f"stages/{self.path.name}/{name}.json"])
        self._part_receipt(name).unlink(missing_ok=True)

    def reopen(self) -> None:
        """Have the stage count as unfinished, for all hosts."""
        self.remote.objects.delete([_receipt_key(self.path.name)])
        self.remote.note(self.path.name, None)

    def _bring_part_receipt(self, name: str) -> None:
        with suppress(ObjectsError):
            self.remote.objects.fetch(f"stages/{self.path.name}/{name}.json", self._part_receipt(name))

    def _missing(self, name: str) -> list[Mapping[str, Any]]:
        """Return the files a part's receipt promises and this cache lacks."""
        try:
            files = self._files_of(name)
        except StoreError:
            return []
        return [file for file in files if not (self.path / file["name"]).exists()]

    def _files_of(self, name: str) -> list[Mapping[str, Any]]:
        """Return what a part's receipt promises. Raises: StoreError where it cannot be read, or leads elsewhere."""
        receipt = self._part_receipt(name)
        files: list[Mapping[str, Any]] = read_sealed(receipt)["files"]
        for file in files:
            # The receipt may be another host's: a file of a part lies beside its receipt, nowhere else.
            # Stages that are read by their files' names have one part, and no file bears that part's name.
            plain = str(file["name"])
            is_its = plain.startswith(name) or (self.is_read_by_name and not plain.startswith("."))
            if not is_its or "/" in plain or plain == RECEIPT:
                raise StoreError(f"{receipt} promises a file that is none of its part; build from another store")
        return files

    def _parts_of(self, name: str) -> list[str]:
        """Return the parts that may hold a file of this name, after fetching their receipts."""
        self.bring_receipt()
        try:
            names = read_sealed(self.path / RECEIPT)["parts"]
        except StoreError:
            # Of a stage that is being made: a part's files begin with the part's name.
            names = [name[:end] for end in range(len(name) - 1, 0, -1) if name[end] in "-."]
        found = [part for part in names if name.startswith(part)] or list(names)
        self.bring_part_receipts(found)
        return found

    def _bring_file(self, promised: Mapping[str, Any]) -> str | None:
        """Fetch a file; return what is wrong with it at the address, None where it lies here now.

        Raises: BucketError, ObjectsError where the address cannot be asked.
        """
        key = self._key(promised)
        aside = self.path / f".{secrets.token_hex(6)}.{promised['name']}"
        try:
            try:
                self.remote.objects.fetch(key, aside)
            except ObjectsError:
                if self.remote.objects.head(key) is not None:
                    raise
                return "is gone"
            if not is_promised(aside, promised["digest"]):
                return "is not what was written"
            aside.replace(self.path / promised["name"])
            return None
        finally:
            aside.unlink(missing_ok=True)

    def _send_file(self, promised: Mapping[str, Any]) -> None:
        self.remote.objects.upload(self._key(promised), self.path / promised["name"])

    def _key(self, promised: Mapping[str, Any]) -> str:
        digest = str(promised["digest"]).rpartition(":")[2][:_DIGEST_DIGITS]
        return f"stages/{self.path.name}/{promised['name']}.{digest}"

    def _part_receipt(self, name: str) -> Path:
        return self.path / f"{name}.json"


def remote_of(root: Path) -> Remote | None:
    """Return the remote store of a cache folder; None for a store of its own."""
    try:
        told = (root / REMOTE).read_bytes()
    except OSError:
        return None
    return _remote(root, told)


def shared_stage(path: Path) -> SharedStage | None:
    """Return the shared stage of a folder; None where its store is not at an address."""
    # Of the thousands of stages of a plan, each is asked for many times: a look at the disk, and no path is made.
    if not os.path.exists(f"{os.path.dirname(os.path.dirname(path))}{os.sep}{REMOTE}"):
        return None
    remote = remote_of(path.parent.parent)
    return None if remote is None else SharedStage(remote, path)


def address_of_root(root: Path) -> str | None:
    """Return the address of a cache folder; None for a store of its own."""
    remote = remote_of(root)
    return None if remote is None else str(remote.objects.address)


def mark_cache(root: Path, address: Address) -> None:
    """Have a folder be the cache of an address."""
    if address_of_root(root) != str(address):
        write_json(root / REMOTE, {"address": str(address)})


def at_hand(path: Path) -> Path:
    """Fetch a path in a cache of this machine if it is missing: a file of a stage, a part by the prefix of its files,
    or a folder.

    Of a folder only what is read by name comes; parts come when they are opened. Gives the path itself.
    """
    if path.is_file():
        return path
    parts = path.parts
    places = [place for place in range(len(parts) - 1) if parts[place] == "stages"]
    for place in places:
        folder = Path(*parts[: place + 2])
        shared = shared_stage(folder)
        if shared is None:
            continue
        if path != folder:
            name = "/".join(parts[place + 2 :])
            shared.bring([name])
            shared.bring_file(name)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            if shared.is_read_by_name:
                shared.bring_receipt()
                if (folder / RECEIPT).exists():
                    shared.bring(read_sealed(folder / RECEIPT)["parts"])
        break
    return path


def file_at_hand(path: Path) -> Path:
    """Fetch one file of a stage if it is missing in a cache of this machine; of any other path nothing is asked. Gives
    the path itself. Raises: StoreError where it is damaged at the address."""
    if not path.exists() and (shared := shared_stage(path.parent)) is not None:
        shared.bring_file(path.name)
    return path


def _receipt_key(name: str) -> str:
    return f"receipts/{name}.json"


@lru_cache(maxsize=16)
def _remote(root: Path, told: bytes) -> Remote:
    try:
        return Remote(root, address_of(str(json_value(told)["address"])))
    except (ValueError, KeyError, TypeError) as fault:
        raise StoreError(f"{root / REMOTE} cannot be read; remove it and run the same command again") from fault
