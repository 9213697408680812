"""The index of a pair, `<prefix>.idx`: read as memory-mapped arrays, checked whole, and written.

The arrays are checked as columns before anything is done with them, on reading and before writing alike, so that no
garbage on disk can lead to more than one sentence, and nothing is written that could not be read.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orca_recipes.shards.files import damage, map_file
from orca_recipes.shards.layout import (
    DTYPES,
    GUARD,
    GUARD_LENGTH,
    GUARD_OFFSET,
    HEADER,
    LARGEST_MODE,
    MAGIC,
    VERSION,
    starts_example,
)

_ARRAYS = ("<i4", "<i8", "<i8", "i1")
"""Types of lengths, offsets, row starts and modes, in the order of the file."""
_SEGMENTS_A_PASS = 1 << 20
"""Offsets are checked in passes of this many segments: a large shard needs no large temporary arrays."""


@dataclass(frozen=True)
class Index:
    """The contents of an `.idx` file.

    dtype: of a token in `.bin`. lengths: int32 [segments], tokens. offsets: int64 [segments], bytes into `.bin`.
    row_starts: int64 [rows + 1] into segments. modes: int8 [segments]. guards: how many stand behind the first segment;
    they are in none of the arrays.
    """

    dtype: np.dtype[Any]
    lengths: np.ndarray
    offsets: np.ndarray
    row_starts: np.ndarray
    modes: np.ndarray
    guards: int = 0

    def is_contiguous(self) -> bool:
        """Tell whether the segments follow one another in `.bin` from its first byte on."""
        return bool(np.array_equal(self.offsets, contiguous_offsets(self.lengths, self.dtype)))


def contiguous_offsets(lengths: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return int64 [segments]: byte offsets of segments that follow one another."""
    ends = np.cumsum(lengths, dtype=np.int64) * dtype.itemsize
    return np.asarray(ends - lengths.astype(np.int64) * dtype.itemsize)


def read_index(path: Path, *, proven: bool = False) -> Index:
    """Map an index into memory; offsets are not yet held against a `.bin`.

    Args:
        proven: its digest was just held against the manifest, so that its columns need no look: opening it then costs
            the same for ten rows and for ten million.
    Raises: DamagedShard, naming the file and what is wrong with it.
    """
    data = map_file(path, own=True)
    if len(data) < HEADER.size:
        raise damage(path, f"{len(data)} bytes are too few for the header of an index")
    dtype, segments, bounds = _header(path, data)
    _check_size(path, len(data), segments, bounds)
    arrays, at = [], HEADER.size
    for count, kind in zip((segments, segments, bounds, segments), _ARRAYS, strict=True):
        arrays.append(np.frombuffer(data, dtype=kind, count=count, offset=at))
        at += arrays[-1].nbytes
    lengths, offsets, row_starts, modes = arrays
    guards = _guards(modes)
    if guards:
        if not proven:
            _check_guards(path, lengths[1 : 1 + guards], offsets[1 : 1 + guards])
        # The first segment takes the last guard's place: what is written is one page of each column, and no more.
        lengths, offsets, modes = (_moved(column, guards) for column in (lengths, offsets, modes))
        row_starts[1:] -= guards
    for column in (lengths, offsets, row_starts, modes):
        column.flags.writeable = False
    if not proven:
        check_segments(path, lengths, modes, row_starts)
    return Index(dtype, lengths, offsets, row_starts, modes, guards)


def write_index(path: Path, index: Index) -> None:
    """Write an index and wait until it is on disk; offsets may point into a `.bin` in any order.

    Raises: DamagedShard where readers would refuse the segments.
    """
    check_segments(path, index.lengths, index.modes, index.row_starts)
    lengths, offsets, row_starts, modes = _guarded(index)
    code = next(code for code, dtype in DTYPES.items() if dtype == index.dtype)
    with path.open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, code, len(lengths), len(row_starts)))
        for array, kind in zip((lengths, offsets, row_starts, modes), _ARRAYS, strict=True):
            file.write(np.ascontiguousarray(array, dtype=kind).data)
        file.flush()
        os.fsync(file.fileno())


def check_segments(path: Path, lengths: np.ndarray, modes: np.ndarray, row_starts: np.ndarray) -> None:
    """Refuse segments from which rows and examples cannot be told.

    Args:
        path: named in the complaint.
    Raises: DamagedShard.
    """
    if not len(row_starts):
        raise damage(path, "its list of rows is empty, and begins with 0 even where there are none")
    if row_starts[0] != 0 or row_starts[-1] != len(lengths):
        raise damage(path, f"its rows cover segments {row_starts[0]} to {row_starts[-1]}, not 0 to {len(lengths)}")
    if (at := _first(row_starts[1:] <= row_starts[:-1])) is not None:
        raise damage(path, f"row {at} holds no segment")
    if (at := _first(lengths < 1)) is not None:
        raise damage(path, f"segment {at} has length {lengths[at]}, and segments are never empty")
    if (at := _first(modes.view(np.uint8) > LARGEST_MODE)) is not None:
        raise damage(path, f"segment {at} has mode {modes[at]}, which the format does not know")
    if (at := _first(~starts_example(modes[row_starts[:-1]]))) is not None:
        raise damage(path, f"row {at} does not begin with the start of an example")


def check_offsets(path: Path, index: Index, stored_bytes: int) -> None:
    """Refuse offsets that lie outside a `.bin` of so many bytes.

    Raises: DamagedShard, naming the index `path`.
    """
    width = index.dtype.itemsize
    for begin in range(0, len(index.offsets), _SEGMENTS_A_PASS):
        offsets = index.offsets[begin : begin + _SEGMENTS_A_PASS]
        room = stored_bytes - index.lengths[begin : begin + _SEGMENTS_A_PASS].astype(np.int64) * width
        if (at := _first((offsets < 0) | (offsets > room) | (offsets % width != 0))) is not None:
            raise damage(
                path, f"segment {begin + at} lies at byte {offsets[at]}, outside the {stored_bytes} bytes of tokens"
            )


def _header(path: Path, data: np.ndarray) -> tuple[np.dtype[Any], int, int]:
    magic, version, code, segments, bounds = HEADER.unpack(data[: HEADER.size].tobytes())
    if magic != MAGIC:
        raise damage(path, "its first bytes are not those of a Megatron index")
    if version != VERSION:
        raise damage(path, f"it has version {version} of the index, and only {VERSION} is known")
    if code not in DTYPES:
        raise damage(path, f"its tokens have dtype code {code}, and only 4 (int32) and 8 (uint16) are known")
    return DTYPES[code], segments, bounds


def _check_size(path: Path, size: int, segments: int, bounds: int) -> None:
    # Bytes of `_ARRAYS`: 4 + 8 + 1 for a segment, 8 for a row start.
    expected = HEADER.size + 13 * segments + 8 * bounds
    if size != expected:
        raise damage(
            path, f"it has {size} bytes, where its header tells of {segments} segments and so of {expected} bytes"
        )


def _guarded(index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Put the guards behind the first segment into lengths, offsets, row starts and modes."""
    columns = (index.lengths, index.offsets, index.row_starts, index.modes)
    if not index.guards or not len(index.lengths):
        return columns
    lengths, offsets, modes = (
        np.insert(column, [1] * index.guards, value)
        for column, value in ((index.lengths, GUARD_LENGTH), (index.offsets, GUARD_OFFSET), (index.modes, GUARD))
    )
    return lengths, offsets, index.row_starts + np.where(np.arange(len(index.row_starts)), index.guards, 0), modes


def _guards(modes: np.ndarray) -> int:
    """Count the guards behind the first segment."""
    others = 1
    while others < len(modes) and modes[others] == GUARD:
        others += 1
    return others - 1


def _check_guards(path: Path, lengths: np.ndarray, offsets: np.ndarray) -> None:
    if (at := _first((lengths != GUARD_LENGTH) | (offsets != GUARD_OFFSET))) is not None:
        raise damage(path, f"guard {at} says {lengths[at]} tokens at byte {offsets[at]}, and no guard says that")


def _moved(column: np.ndarray, places: int) -> np.ndarray:
    """Drop the given number of values behind a column's first."""
    column[places] = column[0]
    return column[places:]


def _first(bad: np.ndarray) -> int | None:
    at = int(bad.argmax()) if len(bad) else 0
    return at if len(bad) and bad[at] else None
