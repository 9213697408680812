"""The files of a build against its manifest: all there, none more, each byte as promised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orca_recipes.errors import DamagedShard
from orca_recipes.shards import curriculum, manifest
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.layout import TOKENIZER, index_path, records_path, tokens_path
from orca_recipes.shards.manifest import FileDigest, Manifest
from orca_recipes.shards.records import REJECTED_NAME
from orca_recipes.shards.report import Finding, Watcher, finding_of
from orca_recipes.shards.table_digest import content_digest_of_table, rows_of_table


def check_files(directory: Path, promised: Manifest, watcher: Watcher, *, digests: bool) -> Iterator[Finding]:
    """Sizes and digests of what the manifest lists, and what it does not list; without digests, sizes alone."""
    for file in (*promised.files, *promised.made.table_files):
        yield from _check_file(directory, file, digests=digests)
        watcher.advance(file.bytes)
    yield from _check_lists(promised)
    listed = {file.path for file in (*promised.files, *promised.made.table_files)}
    for path in sorted(_files_of(directory) - listed - {manifest.NAME}):
        yield Finding(path, "the manifest does not list this file; remove it")


def check_tables(directory: Path, promised: Manifest, damaged: frozenset[str]) -> Iterator[Finding]:
    """Contents of the tables; those whose bytes are damaged are not read."""
    for table in promised.tables:
        if table.path in damaged:
            continue
        try:
            digest = content_digest_of_table(directory / table.path)
        except DamagedShard as error:
            yield finding_of(error, directory, table.path)
            continue
        if digest != table.content_digest:
            yield Finding(table.path, f"its content has digest {digest}, where {table.content_digest} is promised")
        elif (rows := rows_of_table(directory / table.path)) != table.rows:
            yield Finding(manifest.NAME, f"it counts {table.rows} rows in {table.path}, which holds {rows}")


def _check_file(directory: Path, file: FileDigest, *, digests: bool) -> Iterator[Finding]:
    path = directory / file.path
    try:
        size = path.stat().st_size
        digest = file.digest if size == file.bytes else None
        digest = file_digest(path) if digest and digests else digest
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        yield Finding(file.path, "the file is missing" if missing else f"it cannot be read ({error.strerror})")
        return
    if digest is None:
        yield Finding(file.path, f"it has {size} bytes, where {file.bytes} are promised")
    elif digest != file.digest:
        yield Finding(file.path, f"its digest is {digest}, where {file.digest} is promised")


def _check_lists(promised: Manifest) -> Iterator[Finding]:
    """Whatever a build consists of is promised by digest."""
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
