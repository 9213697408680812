"""The folder of an export: made aside, put in place whole, and never over another's files.

What was interrupted stays aside as far as whole shards go, under a name that tells what it is an export of, so that the
same export goes on there and any other begins anew.

`export.json` is written last: its presence means that the export is whole. It says what was exported, how, and the
digest of every file, so that an export can be pushed or checked without the build.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from orca_recipes.contract.exporter import BuildToExport, Exporter
from orca_recipes.errors import ExportError, OrcaError
from orca_recipes.shards import publishing
from orca_recipes.shards.digests import bytes_digest, canonical_json
from orca_recipes.shards.files import sync_folder
from orca_recipes.store.sealed import flush

NAME = "export.json"
WHOLE = ".whole"
"""The folder that says, as long as an export is made, which of its shards are whole."""


def identity(exporter: Exporter, build: BuildToExport) -> str:
    """Tell what an export is of, in 12 hexadecimal digits: equal where the same bytes would be written."""
    versions = {name: metadata.version(name) for name in ("orca-recipes", "pyarrow")}
    kind = f"{type(exporter).__module__}:{type(exporter).__qualname__}"
    datasets = [dataset.name for dataset in build.datasets]
    told = [build.digest, kind, exporter.revision, exporter.identity(), datasets, versions]
    return bytes_digest(canonical_json(told)).partition(":")[2][:12]


@contextmanager
def made_aside(out: Path, name: str) -> Iterator[Path]:
    """Hand over a folder beside a place, and put it there when all went well.

    What an export of the same identity left is handed over again, of any other it is removed first.

    Args:
        name: of `identity`.
    Raises: ExportError where the place is taken, or another export is writing it.
    """
    place = publishing.followed(out)
    refuse_taken(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ExportError(f"{out}: another export is writing it; wait for it, or choose another with --out") from None
    try:
        publishing.put_back(place, last=NAME, own=own_files, spared=name)
        refuse_taken(place)
        aside = publishing.make_aside(place, name)
        try:
            yield aside
            _settle(aside)
            publishing.put_in_place(aside, place, last=NAME, own=own_files)
        except BaseException as fault:
            if isinstance(fault, OrcaError) or not (aside / WHOLE).is_dir():
                publishing.give_up(aside, place, last=NAME)
            raise
    finally:
        # Before it is released: one that waited for this file would hold a lock that has no name.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def refuse_place(directory: Path, out: Path) -> None:
    """Refuse a place for an export that cannot be used, before any file is read.

    Raises: ExportError where it is taken, or lies in the build that is exported, or below a file.
    """
    place = publishing.followed(out)
    if place.is_relative_to(directory.resolve()):
        raise ExportError(f"{out} lies in the build, which holds its own files alone; choose another place with --out")
    above = publishing.file_above(place)
    if above is not None:
        raise ExportError(f"{out} cannot be made: {above} is a file; choose another place with --out")
    refuse_taken(place)


def refuse_taken(out: Path) -> None:
    """Raise ExportError where a place is not free: a file, or a folder that holds anything."""
    if not out.is_dir():
        if out.exists():
            raise ExportError(f"{out} is a file; choose another place with --out")
        return
    if (out / NAME).is_file():
        raise ExportError(f"{out} holds an export already; remove it, or choose another place with --out")
    first = next(publishing.foreign_files(out, frozenset()), None)
    if first is not None:
        raise ExportError(f"{out} is not empty (it holds {first}); empty it, or choose another place with --out")


def own_files(folder: Path) -> Set[str]:
    """Give the files of an export, as its `export.json` lists them; none where there is none."""
    try:
        found = json.loads((folder / NAME).read_bytes())
        return {NAME} | {str(file["path"]) for file in found["files"]}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return frozenset()


def _settle(aside: Path) -> None:
    """Bring every file and every name to the disk, before the export is put in its place."""
    for path in sorted(aside.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            flush(path)
    sync_folder(aside)
