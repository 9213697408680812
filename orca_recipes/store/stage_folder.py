"""The folder of one stage: its parts, and the receipts that promise them.

A part's files are written aside and renamed, then its receipt (what it holds, with sizes and digests); the stage's own
receipt comes last, so that its presence means the stage is whole. Parts are not forced to the disk, for which every
worker would wait: a part that a machine lost with its power is none by its digest. What a receipt promises is held
against the bytes before another stage is made of them; a part that does not keep it is made again, and only that. Of a
store that several hosts share such a folder is a cache (`shared_stage`).
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orca_recipes.counted import counted
from orca_recipes.errors import StoreError
from orca_recipes.shards.files import sync_folder
from orca_recipes.store.claims import Say, quiet
from orca_recipes.store.sealed import is_promised, promise, read_sealed, write_sealed
from orca_recipes.store.shared_stage import RECEIPT, SharedStage, shared_stage

_WRITER = secrets.token_hex(6)
"""Who writes: one name a process. A worker can outlive a build that was killed, and must not write into the files of
the one that runs next."""


@dataclass(frozen=True)
class Part:
    """A finished part: its files, and what its work reported."""

    name: str
    folder: Path
    report: Mapping[str, Any]

    def file(self, suffix: str) -> Path:
        """Return the path of a file of the part, fetched if it is missing here; it need not exist."""
        return StageFolder(self.folder).file(f"{self.name}{suffix}", self.name)

    def path(self, suffix: str) -> Path:
        """Return the path of a file for a task: whoever reads it fetches it (`read_table` does)."""
        return self.folder / f"{self.name}{suffix}"

    def bytes(self, suffix: str) -> int:
        """Return the size of a file by the part's receipt. Raises: StoreError where that has none."""
        return int(StageFolder(self.folder).promised(self.name, suffix)["bytes"])


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage; parts are in their order once it is finished."""

    path: Path

    @property
    def receipt(self) -> Mapping[str, Any]:
        """Read the receipt of the finished stage. Raises: StoreError where it is not finished."""
        if self._shared is not None:
            self._shared.bring_receipt()
        return read_sealed(self.path / RECEIPT)

    @property
    def finished(self) -> bool:
        """Tell whether the stage is whole by its receipts and the sizes of its files; `faults` reads their bytes. At an
        address its receipt is believed: files are compared with their digests when fetched."""
        if self._shared is not None:
            return self._shared.is_published
        try:
            return all(not self._faults_of(name, _size_fault) for name in self.receipt["parts"])
        except StoreError:
            return False

    @property
    def published(self) -> bool:
        """Tell whether the stage was finished once, whatever became of it since."""
        if self._shared is not None:
            return self._shared.is_published
        return (self.path / RECEIPT).exists()

    @property
    def finished_at(self) -> int:
        """Return the time when the stage was finished, in nanoseconds; 0 where it is not."""
        if self._shared is not None:
            return self._shared.finished_at
        try:
            return (self.path / RECEIPT).stat().st_mtime_ns
        except OSError:
            return 0

    def faults(self, *, readers: int = 1) -> list[str]:
        """Compare a published stage with its receipts, file by file, and return the faults; every byte is read.

        What lies at an address and not here is believed as `has_parts` does; what is read by its name is fetched.

        Args:
            readers: files that are read at the same time.
        """
        try:
            names = self.receipt["parts"]
        except StoreError:
            return [f"{RECEIPT} is damaged"]
        if self._shared is not None and not self._shared.is_read_by_name:
            gone = self._shared.lacking(names)
            here = (fault for name in names if name not in gone for fault in self._faults_of(name, _fault_here))
            return [*(f"{name} is missing" for name in names if name in gone), *here]
        if self._shared is not None:
            self._shared.bring(names)
        with ThreadPoolExecutor(readers) as pool:
            return [fault for found in pool.map(self.part_faults, names) for fault in found]

    def part_faults(self, name: str) -> list[str]:
        """Compare a part with its receipt and return the faults; every byte is read."""
        if self._shared is not None and (self._part_receipt(name).exists() or self._shared.is_published):
            self._shared.bring([name])
        return self._faults_of(name, _content_fault)

    def parts(self) -> list[Part]:
        names = self.receipt["parts"]
        self.learn(names)
        return [self.part(name) for name in names]

    def part(self, name: str) -> Part:
        return Part(name, self.path, self._told(name)["report"])

    def file(self, name: str, part: str | None = None) -> Path:
        """Return the path of a file of a part, fetched if it is missing here; it need not exist.

        Args:
            part: the part's name, where it is known.
        """
        path = self.path / name
        if self._shared is not None and not path.exists():
            self._shared.bring_file(name, part)
        return path

    def learn(self, names: Iterable[str]) -> None:
        """Have the receipts of parts here that other processes may have made elsewhere."""
        if self._shared is not None:
            self._shared.bring_part_receipts(names)

    def has_part(self, name: str) -> bool:
        """Tell whether the part is there, as `has_parts` does."""
        return self.has_parts([name])[0]

    def has_parts(self, names: Sequence[str]) -> list[bool]:
        """Tell of each part whether it is there, byte for byte.

        What lies at an address and not here is believed by its receipt and its size: it is compared with its digest
        when somebody fetches it, and many are never read here.
        """
        if self._shared is None:
            return [not self.part_faults(name) for name in names]
        lacking = self._shared.lacking(names)
        return [name not in lacking and not self._faults_of(name, _fault_here) for name in names]

    def digest(self, name: str, suffix: str) -> str:
        """Return the promised digest of one file of a part. Raises: StoreError where the receipt has none."""
        return str(self.promised(name, suffix)["digest"])

    def file_fault(self, name: str, suffix: str) -> str | None:
        """Compare one file of a part with its receipt; None where they agree. Raises: StoreError where it has none."""
        promised = self.promised(name, suffix)
        return _content_fault(self.file(f"{name}{suffix}", name), promised)

    def finish(self, names: Sequence[str], report: Mapping[str, Any]) -> None:
        """Publish the stage: drop what belongs to no part, then write the receipt."""
        keep = {RECEIPT} | {f"{name}.json" for name in names}
        self.learn(names)
        for name in names:
            keep |= {file["name"] for file in self._told(name)["files"]}
        _remove(path for path in self.path.iterdir() if path.name not in keep)
        write_sealed(self.path / RECEIPT, {"parts": list(names), "report": dict(report)})
        sync_folder(self.path)
        if self._shared is not None:
            self._shared.send(names)

    def is_sound(self, name: str, say: Say = quiet, *, readers: int = 1) -> bool:
        """Tell whether the stage is whole, byte for byte; a damaged one is reopened, to make its missing parts again.

        Args:
            name: what to call the stage, where there is something to say.
        """
        if not self.published:
            return False
        faults = self.faults(readers=readers)
        if faults:
            self._reopen()
            more = f" and {counted(len(faults) - 1, 'more fault')}" if len(faults) > 1 else ""
            say(f"{name}: damaged in the store ({faults[0]}{more}); what is damaged is made again")
        return not faults

    def _reopen(self) -> None:
        """Have the stage count as unfinished, and at an address its damaged parts too: they are believed there."""
        if self._shared is not None:
            with suppress(StoreError):
                names = self.receipt["parts"]
                lacking = set() if self._shared.is_read_by_name else self._shared.lacking(names)
                fault = _content_fault if self._shared.is_read_by_name else _fault_here
                for name in names:
                    if name in lacking or self._faults_of(name, fault):
                        self._shared.forget(name)
            self._shared.reopen()
        (self.path / RECEIPT).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Have a part count as unfinished."""
        self._part_receipt(name).unlink(missing_ok=True)
        if self._shared is not None:
            self._shared.forget(name)

    def drop_unfinished(self) -> None:
        """Give back the room of files that were not written to the end."""
        _remove(path for path in self.path.iterdir() if path.name.startswith("."))

    def promised(self, name: str, suffix: str) -> Mapping[str, Any]:
        """Return name, size and digest of a file of a part. Raises: StoreError where the receipt has none."""
        for file in self._told(name)["files"]:
            if file["name"] == f"{name}{suffix}":
                return dict(file)
        path = self._part_receipt(name)
        raise StoreError(f"{path}: it promises no file {name}{suffix}; remove it and run the same command again")

    @property
    def _shared(self) -> SharedStage | None:
        return shared_stage(self.path)

    def _told(self, name: str) -> Mapping[str, Any]:
        """Read the receipt of a part. Raises: StoreError where there is none."""
        self.learn([name])
        return read_sealed(self._part_receipt(name))

    def _part_receipt(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def _faults_of(self, name: str, fault: _FaultOf) -> list[str]:
        path = self._part_receipt(name)
        try:
            files = read_sealed(path)["files"]
        except StoreError:
            return [f"{path.name} is {'damaged' if path.exists() else 'missing'}"]
        found = ((file["name"], fault(self.path / file["name"], file)) for file in files)
        return [f"{file} {what}" for file, what in found if what is not None]


@dataclass(frozen=True)
class PartWriter:
    """Writes one part of a stage, from any process: `path` gives names to write to, `keep` publishes them."""

    folder: Path
    name: str

    def path(self, suffix: str) -> Path:
        """Return the temporary path of a file of this part, to write to."""
        return self.folder / f".{_WRITER}.{self.name}{suffix}"

    def take(self, suffix: str, source: Path) -> None:
        """Have a file of this part be one that the store holds already: linked, or copied where none can be linked."""
        aside = self.path(suffix)
        aside.unlink(missing_ok=True)
        try:
            # A link takes no room and outlives the stage that made the part.
            os.link(source, aside)
        except OSError:
            shutil.copyfile(source, aside)

    def keep(
        self, suffixes: Sequence[str], report: Mapping[str, Any], digests: Mapping[str, str] | None = None
    ) -> None:
        """Rename the part's files, then write its receipt.

        Args:
            digests: those of files, by suffix, that were taken just now.
        """
        files = []
        for suffix in suffixes:
            aside, final = self.path(suffix), self.folder / f"{self.name}{suffix}"
            digest = (digests or {}).get(suffix) or promise(aside)
            files.append({"name": final.name, "bytes": aside.stat().st_size, "digest": digest})
            os.replace(aside, final)
        # flushed=False: a part that is lost with the power fails its digest and is made again.
        write_sealed(self.folder / f"{self.name}.json", {"files": files, "report": dict(report)}, flushed=False)
        if (shared := shared_stage(self.folder)) is not None:
            shared.send_part(self.name)


class _FaultOf(Protocol):
    def __call__(self, path: Path, promised: Mapping[str, Any]) -> str | None: ...


def _size_fault(path: Path, promised: Mapping[str, Any]) -> str | None:
    try:
        size = path.stat().st_size
    except OSError:
        return "is missing"
    return None if size == promised["bytes"] else f"has {size} bytes, not {promised['bytes']}"


def _content_fault(path: Path, promised: Mapping[str, Any]) -> str | None:
    fault = _size_fault(path, promised)
    if fault is not None:
        return fault
    try:
        return None if is_promised(path, promised["digest"]) else "holds other bytes than were written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _fault_here(path: Path, promised: Mapping[str, Any]) -> str | None:
    return _content_fault(path, promised) if path.exists() else None


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
