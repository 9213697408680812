"""Files of JSON lines: cut in slices, read in blocks.

A slice knows the physical line that it begins on, so that reading any one of them gives the places that reading the
whole file gives.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import Wanted, shown_path
from orca_plugins.sources.files.json_rows.jsonl_pyarrow import objects_in, read_lines, value_of_line
from orca_plugins.sources.files.json_rows.jsonl_trusted_lines import count_feeds, index_lines
from orca_plugins.sources.files.places.byte_stream import chunks, head_lines, line_blocks, said_of, whole_file
from orca_plugins.sources.files.places.formats import compression_of
from orca_plugins.sources.files.row_records import look_at_head, names_in
from orca_recipes.contract.kinds import Reading, Slice, SourceFile

# Columns are named before anything is read; a file whose first hundred rows lack one is hardly meant to have it.
_HEAD_ROWS = 100
_COUNTED_BYTES = 1 << 19
"""Bytes whose lines are counted at a time: they stay in the cache between being read and being looked at."""
_COUNTERS = 4
"""Slices whose lines are counted side by side, while all workers wait for the first of them."""


def slices(file: SourceFile, *, slice_bytes: int) -> list[Slice]:
    """Cut a plain file into slices after line feeds, each with the physical line it begins on."""
    size = whole_file(file).stop
    with said_of(file.path):
        bounds = [0, *_cuts(file.path, max(slice_bytes, 1), size), size]
        spans = list(pairwise(bounds))
        with ThreadPoolExecutor(_COUNTERS) as pool:
            feeds = pool.map(partial(_feeds, file.path), spans[:-1])
            lines = accumulate(feeds, initial=1)
            return [Slice(file, start, stop, line) for (start, stop), line in zip(spans, lines, strict=True)]


def raw_rows(file: SourceFile, *, holding: "re.Pattern[bytes] | None" = None) -> Iterator[tuple[int, Any]]:
    """Place and value of each line, a BadRow for one that is no JSON.

    Args:
        holding: only lines in which this is found.
    """
    place = 1
    for block in line_blocks(chunks(file.path)):
        lines = index_lines(block, first_place=place)
        for here, line in lines if holding is None or holding.search(block) else ():
            if holding is None or holding.search(line):
                yield here, value_of_line(line)
        place = lines.next_place


def column_names(file: SourceFile) -> list[str]:
    """List the columns of a file's first rows; fields of objects have dotted names."""
    return list(dict.fromkeys(name for record in _head_records(file) for name in names_in(record)))


def read(slice: Slice, *, file: SourceFile, wanted: Wanted, finish: Finish) -> Iterator[Reading]:
    """Read a slice; a compressed file has only one.

    Raises: SourceError.
    """
    if slice.start == 0:
        _look_at_head(file, wanted)
    place = slice.first_place
    compressed = compression_of(file.path.name) is not None
    pieces = chunks(file.path) if compressed else chunks(file.path, start=slice.start, stop=slice.stop)
    for block in line_blocks(pieces):
        lines = index_lines(block, first_place=place)
        if len(lines):
            yield finish.reading(read_lines(lines, wanted))
        place = lines.next_place


def _cuts(path: Path, slice_bytes: int, size: int) -> Iterator[int]:
    """Yield the start of each further slice: the first line that begins slice_bytes or more after the last cut."""
    with path.open("rb") as stream:
        cut = 0
        while cut + slice_bytes <= size:
            stream.seek(cut + slice_bytes - 1)
            while (piece := stream.readline(_COUNTED_BYTES)) and not piece.endswith(b"\n"):
                pass  # of a line of any length, no more than this is held
            cut = stream.tell() if piece else size
            if cut < size:
                yield cut


def _feeds(path: Path, span: tuple[int, int]) -> int:
    """Return line feeds in a span of bytes."""
    found, (start, stop) = 0, span
    with path.open("rb", buffering=0) as stream:
        stream.seek(start)
        while start < stop and (piece := stream.read(min(_COUNTED_BYTES, stop - start))):
            found += count_feeds(piece)
            start += len(piece)
    return found


def _look_at_head(file: SourceFile, wanted: Wanted) -> None:
    """Complain at once of a file whose rows hold neither questions nor messages under the names asked for."""
    look_at_head(shown_path(file.path), _head_records(file), wanted)


def _head_records(file: SourceFile) -> Iterator[dict[str, Any]]:
    return objects_in([line for line in head_lines(file.path) if line.strip()][:_HEAD_ROWS])
