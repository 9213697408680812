"""A store of finished stages, in folders by fingerprint and readable label.

A stage is a folder of parts (`stage_folder`). One lock a stage lets two builds over one store wait for each other's
work instead of doing it twice. A store that several hosts share lies at an address; then these folders are a cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orca_recipes.errors import StoreError
from orca_recipes.plan.stages import Stage
from orca_recipes.shards.files import sync_folder
from orca_recipes.store.claims import Claims, Say, patiently, quiet
from orca_recipes.store.disk_faults import writing_store
from orca_recipes.store.sealed import read_json, write_json
from orca_recipes.store.stage_folder import StageFolder
from orca_recipes.store.store_marker import STAGE, open_store

# 80 bits tell all stages of a store apart, and leave room for a name in what a file system takes.
_FINGERPRINT_DIGITS = 20
_STAGE_NAME = re.compile(r".+-[0-9a-f]{20}", re.DOTALL)


class Store:
    """The store at a folder; made where there is none."""

    def __init__(self, root: Path) -> None:
        """Raises: NoStore where the folder holds something else; StoreError where it cannot be written."""
        self.root, self._stages = root, root / "stages"
        open_store(root)
        self._claims = Claims(root / "running")
        self._is_frozen = not os.access(root / "stages", os.W_OK)
        self._listed: tuple[int, dict[str, list[str]]] = (-1, {})

    @property
    def name(self) -> str:
        """Return the user's name for the store: its folder, or its address."""
        return str(self.root)

    def folder(self, stage: Stage) -> StageFolder:
        return StageFolder(self._stages / _folder_name(stage))

    def finished(self, stages: Iterable[Stage]) -> set[str]:
        """Return the names of the stages that are finished; the folder of stages is listed once for all."""
        here = {name for names in self._by_label().values() for name in names}
        return {stage.name for stage in stages if _folder_name(stage) in here and self.folder(stage).finished}

    def earlier(self, stage: Stage) -> list[StageFolder]:
        """Return the other finished stages with the label of a stage, the newest first."""
        own = _folder_name(stage)
        others = (name for name in self._by_label().get(_label(stage), ()) if name != own)
        found = [folder for name in others if (folder := StageFolder(self._stages / name)).published]
        return sorted(found, key=lambda folder: (-folder.finished_at, folder.path.name))

    def _by_label(self) -> Mapping[str, Sequence[str]]:
        """Map labels to folders of stages, listed anew when any came or went, as a plan asks once a stage."""
        try:
            changed = self._stages.stat().st_mtime_ns
            if changed != self._listed[0]:
                self._listed = (changed, self._labelled(sorted(os.listdir(self._stages))))
        except FileNotFoundError:
            return {}
        return self._listed[1]

    def _labelled(self, names: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in names:
            if _STAGE_NAME.fullmatch(name):
                found.setdefault(name[:-_FINGERPRINT_DIGITS], []).append(name)
        return found

    def _make_folder(self, path: Path) -> None:
        """Make the folder of a stage; where the list of stages was the newest, it stays so, and is not made anew for
        each of thousands of stages."""
        was_newest = self._stages.stat().st_mtime_ns == self._listed[0]
        try:
            path.mkdir()
        except FileExistsError:
            return
        if was_newest:
            listed = self._listed[1]
            for label, names in self._labelled([path.name]).items():
                listed.setdefault(label, []).extend(names)
            self._listed = (self._stages.stat().st_mtime_ns, listed)

    def hold(self, folders: Iterable[StageFolder], say: Say = quiet) -> None:
        """Claim folders of stages, as `claim` does: what is taken over of them stays meanwhile.

        In a store that may only be read nothing is claimed.
        """
        if self._is_frozen:
            return
        with writing_store(self.root):
            self._claims.add({folder.path.name for folder in folders}, say)

    def hold_earlier(self, stages: Iterable[Stage], say: Say = quiet) -> None:
        """Claim all that `earlier` may give for stages, at once: each claim writes the list of all."""
        by_label = self._by_label()
        names = [name for stage in stages for name in by_label.get(_label(stage), ())]
        self.hold((StageFolder(self._stages / name) for name in names), say)

    def claim(self, stages: Iterable[Stage], say: Say = quiet) -> None:
        """Keep stages from `clean` until `release`, or as long as this process runs."""
        self.hold((self.folder(stage) for stage in stages), say)

    def release(self) -> None:
        """Claim no stages any more."""
        self._claims.drop()

    @contextmanager
    def working_on(self, stage: Stage, say: Say = quiet) -> Iterator[StageFolder]:
        """Hold the stage's lock, so that one build works on it at a time.

        In a store that may only be read a finished stage is used without.

        Raises: StoreError where the store cannot be written; half-written files are removed, finished parts stay.
        """
        folder = self.folder(stage)
        if self._is_frozen and folder.finished:
            yield folder
            return
        self.claim([stage], say)
        waiting = f"waiting for another build, which makes {stage.name}"
        with writing_store(self.root), patiently(self._lock_of(folder.path), say, waiting):
            self._make_folder(folder.path)
            try:
                yield folder
            except BaseException:
                folder.drop_unfinished()
                raise
            sync_folder(folder.path.parent)

    def remove(self, stages: Iterable[Stage], say: Say = quiet) -> bool:
        """Take stages out of the store, unless another running build needs one of them; say whether that was done."""
        folders = {self.folder(stage).path for stage in stages}
        with writing_store(self.root), self._claims.door(say):
            if {folder.name for folder in folders} & self._claims.of_others():
                return False
            for folder in sorted(folders):
                with patiently(self._lock_of(folder), say, f"waiting for another build, which makes {folder.name}"):
                    shutil.rmtree(folder, ignore_errors=True)
        return True

    def remember_build(self, directory: Path, record: Mapping[str, Any]) -> None:
        """Record the stages of a build, for `clean` to keep and `plan` to compare with."""
        if self._is_frozen:
            return
        with writing_store(self.root):
            write_json(self._build_record(directory), {"directory": str(directory.resolve()), **record})

    def last_build(self, directory: Path) -> Mapping[str, Any] | None:
        """Return the record of the last build into a directory; None where none can be read."""
        try:
            return read_json(self._build_record(directory))
        except StoreError:
            return None

    def clean(self, *, keep_nothing: bool = False, say: Say = quiet) -> tuple[int, int]:
        """Remove stages that no living build uses: (stages, bytes) removed.

        A build lives while its directory holds a manifest, or its process runs. What is no stage by its name is left.
        """
        removed = freed = 0
        self._claims.drop()
        with writing_store(self.root), self._claims.door(say):
            living = self._claims.of_others() | self._built(forget=keep_nothing)
            for folder in sorted((self.root / "stages").iterdir()):
                if not STAGE.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
                    say(f"{folder}: left as it is, because it is no stage")
                    continue
                if folder.name in living:
                    continue
                with patiently(self._lock_of(folder), say, f"waiting for another build, which makes {folder.name}"):
                    # A part may be hard-linked into several stages (`taken_over`).
                    freed += sum(_own_bytes(path) for path in folder.rglob("*") if path.is_file())
                    shutil.rmtree(folder)
                    self._lock_of(folder).unlink(missing_ok=True)
                removed += 1
        return removed, freed

    def _built(self, *, forget: bool) -> set[str]:
        """Return the folders of complete builds, and delete the records of others, or of all under `forget`."""
        found: set[str] = set()
        for path in sorted((self.root / "builds").glob("*.json")):
            record = _record(path)
            if not forget and record is not None and (Path(record["directory"]) / "manifest.json").is_file():
                found |= set(record["folders"])
            else:
                path.unlink()
        return found

    def _lock_of(self, folder: Path) -> Path:
        return self.root / "locks" / f"{folder.name}.lock"

    def _build_record(self, directory: Path) -> Path:
        # Builds into folders of one name need records of their own.
        key = hashlib.blake2b(str(directory.resolve()).encode(), digest_size=8).hexdigest()
        return self.root / "builds" / f"{directory.name}-{key}.json"


def _own_bytes(path: Path) -> int:
    """Return the bytes freed by removing a file: 0 where another stage holds a link to it."""
    status = path.stat()
    return status.st_size if status.st_nlink == 1 else 0


def _record(path: Path) -> Mapping[str, Any] | None:
    """Read the record of a build, None where it is damaged: losing a stage costs time, and nothing else."""
    try:
        record = read_json(path)
        return record if {"directory", "folders"} <= record.keys() else None
    except StoreError:
        return None


def _folder_name(stage: Stage) -> str:
    return f"{_label(stage)}{stage.fingerprint[:_FINGERPRINT_DIGITS]}"


def _label(stage: Stage) -> str:
    """Return what the folders of all stages of a verb and subject begin with."""
    return f"{stage.label.replace(' ', '-')}-"
