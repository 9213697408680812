"""The files of a build against its manifest: all there, none more, each byte as promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca_recipes.errors import DamagedShard
from orca_recipes.objects.ranges import sizes_at_address
from orca_recipes.shards import curriculum, manifest
from orca_recipes.shards.beside import is_beside
from orca_recipes.shards.checks.verify_report import Finding, Watcher, finding_of
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.layout import TOKENIZER, index_path, records_path, tokens_path
from orca_recipes.shards.manifest import FileDigest, Manifest, TableDigest
from orca_recipes.shards.records import REJECTED_NAME, stored_table
from orca_recipes.shards.table_digest import content_digest_of, content_digest_of_table, rows_of_table

if TYPE_CHECKING:
    import pyarrow as pa


def check_files(directory: Path, promised: Manifest, watcher: Watcher, *, digests: bool) -> Iterator[Finding]:
    """Check sizes and digests of the files in the manifest, and find files it does not list; without digests, sizes
    alone.

    Without digests, of a copy of an address, the sizes are those at the address.
    """
    there = None if digests else sizes_at_address(directory)
    for file in (*promised.files, *promised.made.table_files):
        if there is None:
            yield from check_file(directory, file, digests=digests)
        elif (size := there.get(file.path)) != file.bytes:
            yield _missing(file) if size is None else _other_size(file, size)
        watcher.advance(file.bytes)
    yield from _check_lists(promised)
    listed = {file.path for file in (*promised.files, *promised.made.table_files)}
    found = _files_of(directory) if there is None else there.keys()
    for path in sorted(found - listed - {manifest.NAME}):
        if not is_beside(path):
            yield Finding(path, "the manifest does not list this file; remove it")


class TableChecks:
    """Contents of the tables; those whose bytes are damaged are not read.

    A table that another check looks into is digested as that check reads it, so that it is read once.
    """

    def __init__(self, directory: Path, promised: Manifest, damaged: frozenset[str], *, digests: bool) -> None:
        """digests: whether contents are looked at."""
        self._directory = directory
        self.damaged = damaged
        self._listed = [table for table in promised.tables if digests and table.path not in damaged]
        self._paths = {table.path for table in self._listed}
        self._contents: dict[str, _Content] = {}

    def read(self, path: str) -> pa.Table | None:
        """Read a table as stored; None where its bytes are damaged. Raises: DamagedShard where it cannot be read."""
        if path in self.damaged:
            return None
        stored = stored_table(self._directory / path)
        if path in self._paths:
            self._contents[path] = self._content(path, stored)
        return stored

    def is_sound(self, path: str) -> bool:
        """Tell whether a table already read has the promised content, however many rows the manifest counts in it."""
        found = (finding for table in self._listed if table.path == path for finding in self._compared(table))
        return path not in self.damaged and all(finding.file != path for finding in found)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings of all tables in the order of the manifest; tables nobody read yet are read now."""
        for table in self._listed:
            if table.path not in self._contents:
                self._contents[table.path] = self._content(table.path, None)
            yield from self._compared(table)

    def _content(self, path: str, stored: pa.Table | None) -> _Content:
        file = self._directory / path
        try:
            if stored is None:
                return _Content(content_digest_of_table(file), rows_of_table(file))
            return _Content(content_digest_of(stored, file), len(stored))
        except DamagedShard as error:
            return _Content("", 0, finding_of(error, self._directory, path))

    def _compared(self, table: TableDigest) -> list[Finding]:
        """Compare a table with the manifest; no findings where it was not read."""
        held = self._contents.get(table.path)
        if held is None:
            return []
        if held.fault is not None:
            return [held.fault]
        if held.digest != table.content_digest:
            return [
                Finding(table.path, f"its content has digest {held.digest}, where {table.content_digest} is promised")
            ]
        if held.rows != table.rows:
            words = f"it counts {table.rows} rows in {table.path}, which holds {held.rows}"
            return [Finding(manifest.NAME, words)]
        return []


@dataclass(frozen=True)
class _Content:
    """Digest and rows of a table, or the fault that kept it from being read."""

    digest: str
    rows: int
    fault: Finding | None = None


def check_file(directory: Path, file: FileDigest, *, digests: bool) -> Iterator[Finding]:
    """Compare one file's size and digest with what the manifest promises."""
    path = directory / file.path
    try:
        size = path.stat().st_size
        digest = file.digest if size == file.bytes else None
        digest = file_digest(path) if digest and digests else digest
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        yield _missing(file) if missing else Finding(file.path, f"it cannot be read ({error.strerror})")
        return
    if digest is None:
        yield _other_size(file, size)
    elif digest != file.digest:
        yield Finding(file.path, f"its digest is {digest}, where {file.digest} is promised")


def _missing(file: FileDigest) -> Finding:
    return Finding(file.path, "the file is missing")


def _other_size(file: FileDigest, size: int) -> Finding:
    return Finding(file.path, f"it has {size} bytes, where {file.bytes} are promised")


def _check_lists(promised: Manifest) -> Iterator[Finding]:
    """Check that whatever a build consists of is promised by digest."""
    files = {file.path for file in promised.files}
    tables = {table.path for table in promised.tables}
    for path in sorted(_needed_files(promised) - files) + sorted(_needed_tables(promised) - tables):
        yield Finding(manifest.NAME, f"it does not promise {path}, which belongs to the build")
    for path in sorted(tables ^ {file.path for file in promised.made.table_files}):
        yield Finding(manifest.NAME, f"it lists {path} either by content or by bytes, not by both")


def _needed_files(promised: Manifest) -> set[str]:
    prefixes = [Path(shard.prefix) for counts in promised.datasets.values() for shard in counts.shards]
    pairs = {path.as_posix() for prefix in prefixes for path in (tokens_path(prefix), index_path(prefix))}
    return pairs | {curriculum.NAME, TOKENIZER}


def _needed_tables(promised: Manifest) -> set[str]:
    shards = [shard for counts in promised.datasets.values() for shard in counts.shards]
    records = {records_path(Path(shard.prefix)).as_posix() for shard in shards}
    return records | {f"{dataset}/{REJECTED_NAME}" for dataset in promised.datasets}


def _files_of(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
