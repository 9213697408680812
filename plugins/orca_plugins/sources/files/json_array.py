"""A JSON file that is one list of rows.

It is read whole, text and all: JSON says nothing of where its rows end, and files of this kind are small. Rows are
still decoded one at a time, so that a bad one is rejected and the rest is read.
"""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from orca_plugins.sources.files.byte_stream import BLOCK_BYTES, HEAD_BYTES, chunks, line_blocks
from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import Wanted, shown_path
from orca_plugins.sources.files.row_records import Rows, look_at_head, names_in
from orca_plugins.sources.files.strict_json import BAD_JSON, BAD_TEXT, DECODER, TOO_DEEP, BadRow, nested_too_deep
from orca_recipes.contract.kinds import Reading, SourceFile
from orca_recipes.errors import SourceError

_HEAD_ROWS = 100
_BLANK = b" \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]*")
_MARKS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)

Element = tuple[int, int, Any]
"""Where a row's text begins and ends, and its value or the BadRow that it is."""


def holds_lines(file: SourceFile) -> bool:
    """Whether a .json file holds one object a line rather than one list of rows.

    Raises: SourceError where it holds neither.
    """
    pieces = (bare for piece in chunks(file.path) if (bare := piece.lstrip(_BLANK)))
    start = next(pieces, b"")
    if start.startswith(b"["):
        return False
    block = next(line_blocks(itertools.chain([start], pieces)), b"") if start else b""
    first = block.split(b"\n", 1)[0].rstrip(_BLANK)
    if not first or (first.startswith(b"{") and first.endswith(b"}")):
        return True
    raise SourceError(
        f"{shown_path(file.path)}: this JSON is neither a list of rows nor one object a line; "
        'where it should be the latter, format = "jsonl" reads the lines that are'
    )


def column_names(file: SourceFile) -> list[str]:
    """The columns that the first rows of the list have, those inside of objects with dotted names."""
    return list(dict.fromkeys(name for row in first_rows(file, _HEAD_ROWS) for name in names_in(row)))


def first_rows(file: SourceFile, at_most: int) -> list[dict[str, Any]]:
    """The first rows of the list that are objects."""
    head = next(chunks(file.path, size=HEAD_BYTES), b"").decode(errors="surrogateescape")
    rows: list[dict[str, Any]] = []
    with suppress(SourceError, IndexError):  # the head may end in the middle of a row
        for _, _, value in itertools.islice(_elements(shown_path(file.path), head), at_most):
            rows += [value] if isinstance(value, dict) else []
    return rows


def raw_rows(file: SourceFile) -> Iterator[tuple[int, Any]]:
    """Place and value of each row, a BadRow for one that cannot be read."""
    text = b"".join(chunks(file.path)).decode(errors="surrogateescape")
    clean = not _has_surrogates(text)
    for place, (start, end, value) in enumerate(_elements(shown_path(file.path), text), start=1):
        try:
            yield place, _checked(text[start:end], value, clean)
        except BadRow as reason:
            yield place, reason


def read(*, file: SourceFile, wanted: Wanted, finish: Finish) -> Iterator[Reading]:
    """Read the file in batches.

    Raises: SourceError where the list does not end, or something follows it.
    """
    where = shown_path(file.path)
    text = b"".join(chunks(file.path)).decode(errors="surrogateescape")
    clean = not _has_surrogates(text)
    rows, begun = Rows(wanted), 0
    _look_at_head(where, text, wanted)
    for place, (start, end, value) in enumerate(_elements(where, text), start=1):
        try:
            rows.add(place, _checked(text[start:end], value, clean))
        except BadRow as reason:
            rows.reject(place, str(reason))
        if end - begun >= BLOCK_BYTES:
            yield finish.reading([rows.table()])
            rows, begun = Rows(wanted), end
    if rows.places or rows.rejected:
        yield finish.reading([rows.table()])


def _checked(text: str, value: Any, clean: bool) -> Any:
    if not clean and _has_surrogates(text):
        raise BadRow(BAD_TEXT)
    if nested_too_deep(text.encode()):
        raise BadRow(TOO_DEEP)
    if isinstance(value, BadRow):
        raise value
    return value


def _has_surrogates(text: str) -> bool:
    """Whether a decoded text holds bytes that were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _look_at_head(where: str, text: str, wanted: Wanted) -> None:
    found = (record for _, (_, _, record) in zip(range(_HEAD_ROWS), _elements(where, text), strict=False))
    look_at_head(where, (record for record in found if isinstance(record, dict)), wanted)


def _elements(where: str, text: str) -> Iterator[Element]:
    """The elements of the list that the text is."""
    at = _after_space(text, _after_space(text, 0) + 1)
    if text[at : at + 1] == "]":
        end = at
    else:
        mark = ","
        while mark == ",":
            start, end, value = _element(where, text, at)
            yield start, end, value
            end = _after_space(text, end)
            mark, at = text[end], _after_space(text, end + 1)
    rest = _after_space(text, end + 1)
    if rest < len(text):
        line = text.count("\n", 0, rest) + 1
        raise SourceError(f"{where}: the list of rows is over, but line {line} goes on")


def _element(where: str, text: str, at: int) -> Element:
    """The element that begins at a place; a comma or the list's end stands after it."""
    value: Any
    try:
        value, end = DECODER.raw_decode(text, at)
        if text.startswith((",", "]"), _after_space(text, end)):
            return at, end, value
        value = BadRow(BAD_JSON)
    except json.JSONDecodeError:
        value = BadRow(BAD_JSON)
    except RecursionError:
        value = BadRow(TOO_DEEP)
    return at, _end_of_bad_element(where, text, at), value


def _end_of_bad_element(where: str, text: str, at: int) -> int:
    """Where an element ends that is no JSON: at the first comma or closing bracket outside of its own brackets."""
    depth = 0
    for match in _MARKS.finditer(text, at):
        mark = match.group()
        if depth == 0 and mark in (",", "]"):
            return match.start()
        depth = depth + 1 if mark in ("[", "{") else max(depth - (mark in ("]", "}")), 0)
    line = text.count("\n", 0, at) + 1
    raise SourceError(
        f"{where}: the row that begins on line {line} does not end, nor does the list; the file was cut off"
    )


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
