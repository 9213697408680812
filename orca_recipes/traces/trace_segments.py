"""Segment files: answers are appended, never changed; each file has one writer, so that no two ever lock one another.

That holds on a shared file system too, and makes copying safe: a segment that was copied while it grew is a segment
that was cut, and keeps every answer before the cut.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orca_recipes.shards.files import sync_folder
from orca_recipes.traces.trace_lines import decode

SUFFIX = ".answers"
IMPORTED = ".imported.answers"
"""How segments end that hold what was imported: what was bought comes before it."""
SEGMENT_BYTES = 256 << 20
"""A writer begins another file beyond this, so that copying and reading again stay cheap."""


@dataclass(frozen=True)
class Line:
    """A whole line of a segment: where it lies, with its end."""

    offset: int
    data: bytes

    @property
    def stop(self) -> int:
        return self.offset + len(self.data)


class SegmentWriter:
    """Appends lines durably; files are made with the first line. One writer a process, from one thread at a time."""

    def __init__(self, folder: Path, suffix: str = SUFFIX) -> None:
        self._folder, self._suffix = folder, suffix
        self._file: int | None = None
        self._size = 0

    def append(self, lines: bytes) -> None:
        """Bring whole lines to the disk. Raises: OSError; then nothing of them is left in the file where the disk lets
        it be cut, and a torn line, which readers pass by, where it does not."""
        if self._file is None or self._size >= SEGMENT_BYTES:
            self.close()
            self._file, self._size = self._begun(), 0
        try:
            write_all(self._file, lines)
            os.fsync(self._file)
        except OSError:
            # A file that cannot be cut either is left to its torn line: what comes next may not stand behind that.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            self.close()
            raise
        self._size += len(lines)

    def close(self) -> None:
        """Let go of the file; what is appended later goes into another."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begun(self) -> int:
        """Open a new file."""
        # Through links, also where what one leads to is still to be made.
        self._folder.resolve().mkdir(parents=True, exist_ok=True)
        file = os.open(
            self._folder / new_segment_name(self._suffix), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
        )
        sync_folder(self._folder)
        return file


def new_segment_name(suffix: str) -> str:
    """Make a name that nobody else has; the time in it lets people sort files, and decides nothing."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(8)}{suffix}"


def write_all(file: int, data: bytes) -> None:
    """Write data whole: a disk that is nearly full takes a part of it. Raises: OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def segments(folder: Path, suffix: str = SUFFIX) -> list[Path]:
    """List the segment files of a folder, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.endswith(suffix) and not path.name.startswith("."))


def lines_from(path: Path, offset: int) -> Iterator[Line]:
    """Yield the whole lines of a segment from an offset on; text after the last line end counts as not yet written."""
    with path.open("rb") as file:
        file.seek(offset)
        for data in file:
            if data.endswith(b"\n"):
                yield Line(offset, data)
            offset += len(data)


def damaged_lines(path: Path) -> int:
    """Count the damaged lines of a segment, a torn last one included."""
    with path.open("rb") as file:
        return sum(not data.endswith(b"\n") or decode(data) is None for data in file)
