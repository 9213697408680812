"""The files of a push: those listed by a build or an export, checked against their digests, and its card.

Nothing else of the folder goes, and nothing else is passed over in silence: what neither lists is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from orca_recipes.counted import counted
from orca_recipes.errors import BuildError
from orca_recipes.export.export_folder import NAME as EXPORT
from orca_recipes.progress import Progress
from orca_recipes.shards import publishing
from orca_recipes.shards.beside import CARD
from orca_recipes.shards.checks.file_checks import check_file
from orca_recipes.shards.files import damage
from orca_recipes.shards.in_use import begin_to_read
from orca_recipes.shards.manifest import NAME as MANIFEST
from orca_recipes.shards.manifest import FileDigest, read_manifest


@contextmanager
def uploads_of(directory: Path, progress: Progress) -> Iterator[dict[str, int]]:
    """Give the files that are to be uploaded, path to bytes, sorted; meanwhile no build replaces the folder.

    Raises: BuildError where it is neither a build nor an export, or holds what is neither's; DamagedShard.
    """
    is_build = (directory / MANIFEST).is_file()
    with begin_to_read(directory) if is_build else nullcontext():
        last, promised = (MANIFEST, _of_build(directory)) if is_build else (EXPORT, _of_export(directory))
        own = {last, *(file.path for file in promised)}
        foreign = next(publishing.foreign_files(directory, own | {*CARD}), None)
        if foreign is not None:
            raise BuildError(
                f"{directory} holds {foreign}, which is neither of the {'build' if is_build else 'export'} nor its "
                "card; move it elsewhere, then push"
            )
        _check(directory, promised, progress, remedy="build it again" if is_build else "export it again")
        paths = own | {name for name in CARD if (directory / name).is_file()}
        yield {path: (directory / path).stat().st_size for path in sorted(paths)}


def _of_build(directory: Path) -> tuple[FileDigest, ...]:
    promised = read_manifest(directory)
    return (*promised.files, *promised.made.table_files)


def _of_export(directory: Path) -> tuple[FileDigest, ...]:
    path = directory / EXPORT
    if not path.is_file():
        raise BuildError(f"{directory} is neither a build (it has no {MANIFEST}) nor an export (it has no {EXPORT})")
    try:
        listed = json.loads(path.read_bytes())["files"]
        files = (FileDigest(**file) for file in listed)
        # A card is written on by whoever pushes it, and proves nothing of the data.
        return tuple(file for file in files if file.path not in CARD)
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise damage(path, "it does not say what was exported", remedy="export it again") from error


def _check(directory: Path, promised: tuple[FileDigest, ...], progress: Progress, *, remedy: str) -> None:
    progress.begin("check", total=sum(file.bytes for file in promised), unit="B")
    for file in promised:
        for finding in check_file(directory, file, digests=True):
            raise damage(directory / finding.file, finding.sentence, remedy=remedy)
        progress.advance(file.bytes)
    progress.end(counted(len(promised), "file"))
