"""Parts that a stage takes over from an earlier one: the same bytes under another name, held against their digest.

They are links where the file system has them, so that what a living build needs lies in its own stages' folders, takes
no room of its own, and outlives the stage that made it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from orca_recipes.errors import StoreError
from orca_recipes.store.sealed import promise
from orca_recipes.store.stage_folder import PartWriter, StageFolder

_TAKEN = "taken-"


def take_over(source: StageFolder, name: str, target: Path, suffixes: Sequence[str]) -> str | None:
    """Take some files of a part into another stage's folder; return what the part is called there.

    Returns: None where they are no longer what the part's receipt promises.
    Raises: OSError where they cannot be written.
    """
    try:
        promised = {suffix: source.digest(name, suffix) for suffix in suffixes}
        report = {"tokens": source.part(name).report["tokens"]}
    except StoreError:
        return None
    # Named by its content, so that a part taken over twice is stored once.
    known = hashlib.blake2b("\n".join(promised.values()).encode(), digest_size=12).hexdigest()
    folder, taken = StageFolder(target), f"{_TAKEN}{known}"
    if folder.has_part(taken):
        return taken
    writer = PartWriter(target, taken)
    for suffix in suffixes:
        path = source.file(f"{name}{suffix}")
        if not path.is_file():
            return None
        writer.take(suffix, path)
        if promise(writer.path(suffix)) != promised[suffix]:
            writer.path(suffix).unlink()
            return None
    writer.keep(suffixes, report, promised)
    return taken


def is_taken(name: str) -> bool:
    """Tell whether a part was taken over."""
    return name.startswith(_TAKEN)
