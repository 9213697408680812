"""Lists of dropped answers: files of places beside the segments, which are never changed.

A place is a line of a segment with the line's digest, so that the same answer may come in again later, and a segment of
the same name with other lines loses none. Files are appended to, one a writer, as segments are: running builds see what
was dropped at their next look, and a copy that was cut has dropped less.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_recipes.traces.trace_lines import DIGEST_DIGITS, digest_of
from orca_recipes.traces.trace_segments import SegmentWriter, lines_from, segments

SUFFIX = ".dropped"


@dataclass(frozen=True)
class Place:
    """Position of an answer's line in a segment; line: its digest. key: the request it answers."""

    segment: str
    offset: int
    line: bytes
    key: bytes


def write_drops(folder: Path, places: Sequence[Place]) -> None:
    """Bring places to the disk, in a file of their own. Raises: OSError."""
    writer = SegmentWriter(folder, SUFFIX)
    try:
        writer.append(drop_lines(places))
    finally:
        writer.close()


def drop_lines(places: Sequence[Place]) -> bytes:
    """Return places as the lines of a file."""
    return b"".join(map(_encoded, places))


def drop_files(folder: Path) -> list[Path]:
    """List the files of dropped places, by name."""
    return segments(folder, SUFFIX)


def read_drops(path: Path, start: int = 0) -> Iterator[tuple[Place, int]]:
    """Yield the places of a file from an offset on, each with the end of its line; damaged lines are skipped."""
    for line in lines_from(path, start):
        place = _decoded(line.data)
        if place is not None:
            yield place, line.stop


def _encoded(place: Place) -> bytes:
    table = {"segment": place.segment, "offset": place.offset, "line": place.line.hex(), "key": place.key.hex()}
    data = json.dumps(table, sort_keys=True).encode()
    return digest_of(data).encode() + b" " + data + b"\n"


def _decoded(line: bytes) -> Place | None:
    digest, _, data = line.rstrip(b"\n").partition(b" ")
    if len(digest) != DIGEST_DIGITS or digest != digest_of(data).encode():
        return None
    table = json.loads(data)
    return Place(table["segment"], table["offset"], bytes.fromhex(table["line"]), bytes.fromhex(table["key"]))
