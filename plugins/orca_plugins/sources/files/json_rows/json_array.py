"""A JSON file that is one list of rows, or holds one, or is one row.

It is read a window at a time: JSON says nothing of where its rows end, so the text is decoded a row after the other,
and only what is not decoded yet is held. A bad row is rejected and the rest is read.
"""

import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import Wanted, shown, shown_path
from orca_plugins.sources.files.json_rows.json_window import Window, has_surrogates
from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT, TOO_DEEP, BadRow, decode, nested_too_deep
from orca_plugins.sources.files.places.byte_stream import BLOCK_BYTES, HEAD_BYTES, chunks, line_blocks
from orca_plugins.sources.files.row_records import Rows, look_at_head, names_in
from orca_recipes.contract.kinds import Reading, SourceFile
from orca_recipes.errors import SourceError

_HEAD_ROWS = 100
_BLANK = b" \t\r\n"

Element = tuple[int, str, Any]
"""Where a row's text ends, the text, and its value or the BadRow that it is."""


_OF_A_TASK = ("Positive Examples", "Instances")
"""Lists in a task file of Natural Instructions, which source niv2 reads."""


def holds_lines(file: SourceFile, row_keys: Collection[str] = ()) -> bool:
    """Tell whether a .json file holds one object a line, rather than one list of rows or one row.

    Args:
        row_keys: an object over several lines that has one of these keys is a row.
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
    if _is_a_row(file, row_keys):
        return False
    told = f"{shown_path(file.path)}: this JSON is neither a list of rows nor one object a line; "
    names = lists_of_object(file)
    if names:
        raise SourceError(told + _say_rows(names))
    raise SourceError(told + 'where it should be the latter, format = "jsonl" reads the lines that are')


def _is_a_row(file: SourceFile, row_keys: Collection[str]) -> bool:
    """Tell whether the file is one object, with one of these keys, and nothing behind it."""
    window = Window(shown_path(file.path), chunks(file.path))
    is_row = False
    with suppress(SourceError):
        for key in window.object_keys() if window.mark() == "{" else ():
            is_row = is_row or key in row_keys
            window.skip()
        return is_row and not window.mark()
    return False


def require_lines(file: SourceFile, wanted: Wanted) -> None:
    """Refuse a file of one object that holds its rows in a list, without any wanted column beside it.

    Raises: SourceError, naming the list.
    """
    require_no_list(file, row_keys={path.partition(".")[0] for path in wanted.paths.values()}, is_json=True)


def require_no_list(file: SourceFile, *, row_keys: Collection[str], is_json: bool) -> None:
    """Refuse a file of one object that holds lists of rows, and none of the keys of a row.

    Args:
        is_json: whether it is read as JSON, and not line by line.
    Raises: SourceError, naming the lists.
    """
    if names := lists_of_object(file, unless=row_keys):
        told = _say_rows(names) if is_json else f'format = "json" with {_say_rows(names)}'
        raise SourceError(f"{shown_path(file.path)}: this JSON is one object; {told}")


def lists_of_object(file: SourceFile, *, unless: Collection[str] = ()) -> list[str]:
    """List the keys under which a file of one object holds lists of objects; empty where it has a key of `unless`, or
    is not one object."""
    window = Window(shown_path(file.path), chunks(file.path))
    found = []
    with suppress(SourceError):
        if window.mark() != "{":
            return []
        for key in window.object_keys():
            if key in unless:
                return []
            if window.mark() == "[" and window.begins_with("[", "{"):
                found.append(key)
            window.skip()
        return [] if window.mark() else found
    return found


def column_names(file: SourceFile, rows: str | None = None) -> list[str]:
    """List the columns of the list's first rows; fields of objects have dotted names."""
    return list(dict.fromkeys(name for row in first_rows(file, _HEAD_ROWS, rows) for name in names_in(row)))


def first_rows(file: SourceFile, at_most: int, rows: str | None = None) -> list[dict[str, Any]]:
    """Read the first rows of the list, objects only; a list that lies deeper may begin anywhere, so there the whole
    file may be read."""
    head = chunks(file.path) if rows is not None else itertools.islice(chunks(file.path, size=HEAD_BYTES), 1)
    window = Window(shown_path(file.path), head)
    if rows is None and window.mark() == "{":
        window = Window(shown_path(file.path), chunks(file.path))
    found: list[dict[str, Any]] = []
    with suppress(SourceError):  # the head may end in the middle of a row
        for _, _, value in itertools.islice(_elements(window, rows), at_most):
            found += [value] if isinstance(value, dict) else []
    return found


def raw_rows(file: SourceFile, rows: str | None = None) -> Iterator[tuple[int, Any]]:
    """Place and value of each row, a BadRow for one that cannot be read."""
    window = Window(shown_path(file.path), chunks(file.path))
    for place, (_, text, value) in enumerate(_elements(window, rows), start=1):
        try:
            yield place, _checked(text, value, window.is_clean)
        except BadRow as reason:
            yield place, reason


def read(*, file: SourceFile, wanted: Wanted, finish: Finish, path: str | None = None) -> Iterator[Reading]:
    """Read the file in batches.

    Args:
        path: the keys that lead to the list, with dots between them; None: the file is the list.
    Raises: SourceError where there is no list, it does not end, or something follows it.
    """
    where = shown_path(file.path)
    rows, begun = Rows(wanted), 0
    head = itertools.islice(_elements(Window(where, chunks(file.path)), path), _HEAD_ROWS)
    look_at_head(where, (value for _, _, value in head if isinstance(value, dict)), wanted)
    window = Window(where, chunks(file.path))
    for place, (end, text, value) in enumerate(_elements(window, path), start=1):
        try:
            rows.add(place, _checked(text, value, window.is_clean))
        except BadRow as reason:
            rows.reject(place, str(reason))
        if end - begun >= BLOCK_BYTES:
            yield finish.reading([rows.table()])
            rows, begun = Rows(wanted), end
    if rows.places or rows.rejected:
        yield finish.reading([rows.table()])


def _say_rows(names: Sequence[str]) -> str:
    if set(_OF_A_TASK) <= set(names):
        return 'it is a task of Natural Instructions, which collections of kind = "niv2" read'
    told = " or ".join(f"rows = {json.dumps(name)}" for name in names)
    return f"{told} reads the list in it (init: --rows {names[0]})"


def _checked(text: str, value: Any, clean: bool) -> Any:
    if not clean and has_surrogates(text):
        raise BadRow(BAD_TEXT)
    if nested_too_deep(text.encode()):
        raise BadRow(TOO_DEEP)
    if isinstance(value, BadRow):
        raise value
    return value


def _elements(window: Window, path: str | None) -> Iterator[Element]:
    """Yield the elements of the list at a path, or of the text itself; a file of one object is one element."""
    keys = path.split(".") if path is not None else []
    if not keys and window.mark() == "{":
        text = window.rest()
        yield window.passed_chars, text, _decoded(text)
        return
    objects = []
    for number, key in enumerate(keys):
        objects.append(_entered(window, key, ".".join(keys[:number])))
    if window.mark() != "[":
        raise SourceError(f'{window.where}: rows = "{shown(path or "")}" leads to no list')
    for text, value in window.list_items():
        yield window.passed_chars, text, value
    for key, rest in reversed(list(zip(keys, objects, strict=True))):
        for other in rest:
            if other == key:
                raise SourceError(f'{window.where}: the key "{shown(key)}" is given twice')
            window.skip()
    if window.mark():
        raise SourceError(f"{window.where}: the list of rows is over, but line {window.line()} goes on")


def _decoded(text: str) -> Any:
    try:
        return decode(text)
    except BadRow as reason:
        return reason


def _entered(window: Window, key: str, inside: str) -> Iterator[str]:
    """Enter the object at the window's place, up to a key, and return the iterator of its keys."""
    place = f'"{shown(inside)}" is' if inside else "the file is"
    if window.mark() != "{":
        raise SourceError(f'{window.where}: no key "{shown(key)}": {place} no object')
    found = []
    keys = window.object_keys()
    for name in keys:
        if name == key:
            return keys
        found.append(name)
        window.skip()
    has = ", ".join(map(shown, found)) or "no key"
    holder = shown(inside) or "the object"
    raise SourceError(f'{window.where}: no key "{shown(key)}" leads to the rows; {holder} has: {has}')
