"""Files of a build: read with one sentence for what is wrong, written whole or not at all.

A file that people and programs trust is written aside, flushed to disk and renamed; its folder is flushed last, so that
after a crash it is there whole or not there.
"""

import os
from pathlib import Path

import numpy as np

from orca_recipes.errors import DamagedShard
from orca_recipes.objects.copies import at_hand

_MOST_CHARS = 2000
"""What can be read of a sentence that quotes a stranger's file, which may hold a name of any length."""


def map_file(path: Path, *, own: bool = False) -> np.ndarray:
    """Map the bytes of a file read-only: uint8 [bytes].

    Args:
        own: they can be written to, and what is written stays in memory: only those pages become this process' own.
    Raises: DamagedShard where there is no such file or it cannot be read.
    """
    try:
        at_hand(path)
        if path.is_file() and not path.stat().st_size:
            # An empty file cannot be mapped.
            return np.zeros(0, dtype=np.uint8)
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="c" if own else "r"))
    except OSError as error:
        raise damage(path, _why(error)) from error


def read_whole(path: Path) -> bytes:
    """Read all bytes of a file.

    Raises: DamagedShard where there is no such file or it cannot be read.
    """
    try:
        return at_hand(path).read_bytes()
    except OSError as error:
        raise damage(path, _why(error)) from error


def write_whole(path: Path, data: bytes) -> None:
    """Publish a file by rename: readers see all of it or none of it."""
    aside = path.with_name(f"{path.name}.partial")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        # Nothing half-written stays, on a full disk least of all.
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage(path: Path, what: str, *, remedy: str = "build it again") -> DamagedShard:
    """Create the error for a file, in one sentence: the file, the damage, the remedy."""
    return DamagedShard(f"{path}: {cut_to_read(what)}; {remedy} or fetch a sound copy")


def cut_to_read(sentence: str) -> str:
    """Cut a sentence about a stranger's file to a length that can be read."""
    return sentence if len(sentence) <= _MOST_CHARS else f"{sentence[:_MOST_CHARS]}..."


def _why(error: OSError) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else f"it cannot be read ({error.strerror})"
