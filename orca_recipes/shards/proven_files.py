"""Files of a build that are held against the manifest before anything of them is read.

Who reads a few files of a large build need not have all of it verified: these alone are digested, and a damaged one is
refused before its first row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.files import damage
from orca_recipes.shards.table_digest import content_digest_of_table

if TYPE_CHECKING:
    from pathlib import Path

    from orca_recipes.shards.manifest import Manifest


def prove_files(directory: Path, promised: Manifest, paths: Iterable[str]) -> None:
    """Refuse files with other bytes, and tables with other content, than the manifest's digests.

    Args:
        paths: relative to the build directory.
    Raises: DamagedShard, naming the first such file.
    """
    files = {file.path: file.digest for file in (*promised.files, *promised.made.table_files)}
    contents = {table.path: table.content_digest for table in promised.tables}
    for path in paths:
        if path not in files:
            raise damage(directory / path, "the manifest does not promise this file")
        try:
            found = file_digest(directory / path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            why = "there is no such file" if missing else f"it cannot be read ({error.strerror})"
            raise damage(directory / path, why) from error
        # Another machine's Parquet writer gives other bytes of the same table.
        same = path in contents and found != files[path] and content_digest_of_table(directory / path) == contents[path]
        if found != files[path] and not same:
            raise damage(directory / path, f"its digest is {found}, where {files[path]} is promised")
