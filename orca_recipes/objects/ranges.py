"""A file of a copy that is not here, read by ranges: what is asked for comes, and the rest is holes.

A reader sees a file of the whole size, in memory; before it looks at bytes it has them brought. They are of one and the
same object, and are not held against the digest of the file, for which all of it would be needed.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from orca_recipes.errors import ObjectsError
from orca_recipes.objects.copies import copy_of, side_by_side
from orca_recipes.objects.objects import ObjectFacts, Objects

_BLOCK_BYTES = 1 << 14
"""What comes at least: some rows, for hardly more than the answer takes anyway."""
_DEEPEST = 3


@dataclass(frozen=True)
class RangedFile:
    """A file at an address; data: uint8 [bytes], zeros where nothing was brought yet."""

    objects: Objects
    facts: ObjectFacts
    data: np.ndarray
    _file: int
    _here: np.ndarray = field(repr=False)

    def bring(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """Have bytes here before they are read.

        Args:
            starts, stops: int64 [ranges], bytes of the file.
        Raises: BucketError, ObjectsError where they cannot be fetched, or the object is another by now.
        """
        wanted = np.zeros(len(self._here) + 1, dtype=np.int64)
        np.add.at(wanted, starts // _BLOCK_BYTES, 1)
        np.add.at(wanted, -(-stops // _BLOCK_BYTES), -1)
        lacking = (np.cumsum(wanted)[:-1] > 0) & ~self._here
        edges = np.flatnonzero(np.diff(np.concatenate([[False], lacking, [False]]).astype(np.int8)))
        side_by_side(self._fetch, list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)))
        self._here[lacking] = True

    def _fetch(self, blocks: tuple[int, int]) -> None:
        start, stop = blocks[0] * _BLOCK_BYTES, min(blocks[1] * _BLOCK_BYTES, self.facts.bytes)
        found = self.objects.get_range(self.facts.key, start, stop, etag=self.facts.etag)
        os.pwrite(self._file, found, start)


def ranged_file(path: Path) -> RangedFile | None:
    """Open a file of a copy for reading by ranges; None if it is here, or of no copy.

    Raises: BucketError, ObjectsError where it cannot be asked for, is missing or has another size than is promised.
    """
    copied = _copied(path)
    if copied is None:
        return None
    objects, name, size = copied
    facts = objects.head(name)
    if facts is None or facts.bytes != size:
        fault = "is missing" if facts is None else f"has {facts.bytes} bytes, where {size} are promised"
        raise ObjectsError(f"{objects.address / name} {fault}; build it again or put a sound copy there")
    file, aside = tempfile.mkstemp(prefix="orca-ranges-")
    os.unlink(aside)
    os.ftruncate(file, size)
    with os.fdopen(os.dup(file), "rb") as opened:
        data = np.memmap(opened, dtype=np.uint8, mode="r") if size else np.zeros(0, dtype=np.uint8)
    blocks = -(-size // _BLOCK_BYTES)
    found = RangedFile(objects, facts, np.asarray(data), file, np.zeros(blocks, dtype=np.bool_))
    weakref.finalize(found, os.close, file)
    return found


def is_elsewhere(path: Path) -> bool:
    """Tell whether a file is not here and its copy's address promises it."""
    return _copied(path) is not None


def sizes_at_address(folder: Path) -> dict[str, int] | None:
    """Map the files at the address of a copy to their bytes; None if the folder is no copy.

    Raises: BucketError, ObjectsError.
    """
    copy = copy_of(folder)
    return None if copy is None else {one.key: one.bytes for one in copy.objects.listed() if one.key[0] != "."}


def _copied(path: Path) -> tuple[Objects, str, int] | None:
    """Find the address of a file that is not here, its key there and its promised size."""
    if path.exists():
        return None
    for folder in list(path.parents)[:_DEEPEST]:
        copy = copy_of(folder)
        if copy is not None:
            name = path.relative_to(folder).as_posix()
            return (copy.objects, name, copy.files[name].bytes) if name in copy.files else None
    return None
