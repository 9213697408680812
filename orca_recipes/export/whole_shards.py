"""Notes of an export's whole shards, so that an interrupted export goes on behind them.

A note of each shard is written once its files are on the disk, with their digests. Files that no note names are of a
shard that was being written: they are removed, and so is what came to be another than its note says.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from orca_recipes.contract.exporter import Written
from orca_recipes.export.export_folder import WHOLE
from orca_recipes.json_text import json_value
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.files import write_whole
from orca_recipes.store.sealed import flush


class WholeShards:
    """The shards of one export in its folder."""

    def __init__(self, folder: Path) -> None:
        """Take over the whole shards that an earlier run left in the folder, and remove everything else."""
        self.folder = folder
        self._notes = folder / WHOLE
        self._held: dict[str, Written] = {}
        self._digests: dict[Path, tuple[tuple[int, int], str]] = {}
        known: set[Path] = set()
        for note in sorted(self._notes.glob("*.json")):
            with suppress(ValueError, KeyError, TypeError, OSError):
                told = json_value(note.read_bytes())
                files = {folder / name: digest for name, digest in told["files"].items()}
                if all(self.digest(file) == digest for file, digest in files.items()):
                    self._held[note.name] = Written(**told["written"])
                    known |= {note, *files}
        # Reversed, so that a folder comes after all that is in it.
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                with suppress(OSError):  # it holds what is whole
                    path.rmdir()
            elif path not in known:
                path.unlink()
        self._known = self._files()

    def written(self, dataset: str, number: int) -> Written | None:
        """Return the account of a shard, None where it is not whole."""
        return self._held.get(_name(dataset, number))

    def note(self, dataset: str, number: int, written: Written) -> None:
        """Note that a shard is whole; one whose account JSON cannot hold is written again after an interruption."""
        new = self._files() - self._known
        self._known |= new
        account = asdict(written)
        try:
            kept = json.loads(json.dumps(account)) == account
        except (TypeError, ValueError):
            kept = False
        if not kept:
            return
        for path in sorted(new):
            flush(path)
        self._notes.mkdir(exist_ok=True)
        files = {path.relative_to(self.folder).as_posix(): self.digest(path) for path in sorted(new)}
        note = self._notes / _name(dataset, number)
        write_whole(note, json.dumps({"files": files, "written": account}).encode())
        self._known.add(note)

    def digest(self, path: Path) -> str:
        """Digest a file once, and again only where it was written since."""
        status = path.stat()
        stamp = status.st_size, status.st_mtime_ns
        known, digest = self._digests.get(path, (None, ""))
        if known != stamp:
            digest = file_digest(path)
            self._digests[path] = stamp, digest
        return digest

    def forget(self) -> None:
        """Remove the notes: all shards are whole."""
        for note in self._notes.glob("*"):
            note.unlink()
        with suppress(FileNotFoundError):
            self._notes.rmdir()

    def _files(self) -> set[Path]:
        return {path for path in self.folder.rglob("*") if not path.is_dir()}


def _name(dataset: str, number: int) -> str:
    return f"{dataset}.{number:05d}.json"
