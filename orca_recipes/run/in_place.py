"""Check of a build in its place against its manifest, to the last byte.

Who takes a build for done looks at names and sizes; under `--locked` that is not enough. Every file is held against its
digest, and tables against that of their content, because the bytes of a table are promised on no other machine.
"""

from __future__ import annotations

from pathlib import Path

from orca_recipes.contract.kinds import SourceFile
from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.table_digest import content_digest_of_table
from orca_recipes.store.source_digests import BLAKE2B, Digesting, FileDigests


def first_damage(directory: Path, manifest: Manifest, memory: Path, *, rehash: bool) -> str | None:
    """Find the first file that differs from its digest, in a sentence; None if all agree.

    Args:
        memory: where digests are remembered: a build that stays as it was is read once.
    Raises: SourceError where a file cannot be read.
    """
    bytes_of = FileDigests(memory, rehash=rehash, digesting=BLAKE2B)
    content_of = FileDigests(memory, rehash=rehash, digesting=Digesting(content_digest_of_table, "table"))
    promised = [(file.path, file.digest, bytes_of) for file in manifest.files]
    promised += [(table.path, table.content_digest, content_of) for table in manifest.tables]
    for name, digest, digests in promised:
        (pin,) = digests.pin([SourceFile(name, directory / name)])
        if pin.digest != digest:
            return f"{directory / name} holds something else than was built"
    return None
