"""A JSON text of any length, decoded from front to end with no more of it held than one value needs.

Where a value does not end within the window, about as much again is read as is held: a long value is tried a few times
and not once a block.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from orca_plugins.sources.files.json_rows.strict_json import BAD_JSON, DECODER, TOO_DEEP, BadRow
from orca_recipes.errors import SourceError

_SPACE = re.compile(r"[ \t\r\n]*")
# Possessive (*+), so that a string without an end fails without backtracking.
_MARKS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)


class Window:
    """A sliding window on a text, and the place in it.

    `passed_chars` counts the characters before the place. `is_clean`: all text read so far was UTF-8.
    """

    def __init__(self, where: str, pieces: Iterator[bytes]) -> None:
        self.where = where
        self.is_clean = True
        self._pieces = pieces
        # Bytes that are not UTF-8 become surrogates, so that only their row is rejected.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0
        self._dropped = 0
        self._lines = 1
        self._is_last = False

    @property
    def passed_chars(self) -> int:
        return self._dropped + self._at

    def line(self) -> int:
        """Return the line number of the place."""
        return self._lines + self._text.count("\n", 0, self._at)

    def mark(self) -> str:
        """Pass over white space and return the next character, "" at the end."""
        while True:
            self._at = _after_space(self._text, self._at)
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def begins_with(self, first: str, second: str) -> bool:
        """Tell whether these two characters are next, with at most white space between them."""
        while True:
            after = _after_space(self._text, self._at + 1)
            if after < len(self._text) or not self._more():
                return self._text.startswith(first, self._at) and self._text.startswith(second, after)

    def object_keys(self) -> Iterator[str]:
        """Yield the keys of the object that begins here, with the place at the value; the caller passes the value
        before the next key.

        Raises: SourceError where the object is none, or does not end.
        """
        self._at += 1
        if self.mark() == "}":
            self._at += 1
            return
        while True:
            key = self._key()
            yield key
            after = self.mark()
            self._at += 1
            if after == "}":
                return
            if after != ",":
                raise self._broken()

    def list_items(self) -> Iterator[tuple[str, Any]]:
        """Yield text and value of each item of the list that begins here; the value of bad JSON is a BadRow.

        Raises: SourceError where the list does not end.
        """
        self._at += 1
        if self.mark() == "]":
            self._at += 1
            return
        while True:
            self.mark()
            yield self._item()
            after = self.mark()
            self._at += 1
            if after == "]":
                return

    def rest(self) -> str:
        """Read all that is left of the text."""
        while self._more():
            pass
        found, self._at = self._text[self._at :], len(self._text)
        return found

    def skip(self) -> None:
        """Pass over the value that begins here, holding none of it."""
        depth = 0
        self.mark()
        while True:
            at = len(self._text)
            for match in _MARKS.finditer(self._text, self._at):
                mark = match.group()
                is_closed = mark[-1] == '"' and len(mark) > 1 and match.end() < len(self._text)
                if mark[0] == '"' and not is_closed and not self._is_last:
                    at = match.start()
                    break
                if depth == 0 and mark in (",", "]", "}"):
                    self._at = match.start()
                    return
                depth += (mark in ("[", "{")) - (mark in ("]", "}"))
            self._at = at
            if not self._more():
                raise self._broken()

    def _key(self) -> str:
        """Read the key that begins here, and move to its value."""
        if self.mark() != '"':
            raise self._broken()
        while True:
            try:
                key, end = DECODER.raw_decode(self._text, self._at)
                break
            except json.JSONDecodeError:
                if not self._more():
                    raise self._broken() from None
        self._at = end
        if self.mark() != ":":
            raise self._broken()
        self._at += 1
        return str(key)

    def _item(self) -> tuple[str, Any]:
        """Read the item that begins here, up to the comma or the list's end."""
        while True:
            found = _tried(self._text, self._at, self._is_last)
            if found is not None:
                value, end = found
                text = self._text[self._at : end]
                self._at = end
                return text, value
            if not self._more():
                raise SourceError(
                    f"{self.where}: the row that begins on line {self.line()} does not end, nor does the list; "
                    "the file was cut off"
                )

    def _more(self) -> bool:
        """Read on, where the text does."""
        if self._is_last:
            return False
        self._lines = self.line()
        self._dropped += self._at
        rest, self._at = self._text[self._at :], 0
        pieces, size = [rest], 0
        # At least doubled: an item that is longer than the window costs its length, not its square.
        while size <= len(rest) and not self._is_last:
            piece = next(self._pieces, None)
            self._is_last = piece is None
            pieces.append(self._decoder.decode(piece or b"", final=piece is None))
            size += len(pieces[-1])
            self.is_clean = self.is_clean and not has_surrogates(pieces[-1])
        self._text = "".join(pieces)
        return True

    def _broken(self) -> SourceError:
        return SourceError(f"{self.where}: line {self.line()} is no JSON, or the file was cut off")


def has_surrogates(text: str) -> bool:
    """Tell whether a decoded text holds surrogates, in place of bytes that were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _tried(text: str, at: int, is_last: bool) -> tuple[Any, int] | None:
    """Decode the value at a place, a BadRow if it is no JSON, and find its end; None where the text ends first."""
    value: Any
    try:
        value, end = DECODER.raw_decode(text, at)
        after = _after_space(text, end)
        if text.startswith((",", "]"), after):
            return value, end
        if after >= len(text) and not is_last:
            return None
        value = BadRow(BAD_JSON)
    except json.JSONDecodeError:
        value = BadRow(BAD_JSON)
    except RecursionError:
        value = BadRow(TOO_DEEP)
    end_of_bad = _end_of_bad_element(text, at)
    return None if end_of_bad is None else (value, end_of_bad)


def _end_of_bad_element(text: str, at: int) -> int | None:
    """Find the end of an element that is no JSON: the first comma or closing bracket outside its own brackets."""
    depth = 0
    for match in _MARKS.finditer(text, at):
        mark = match.group()
        if depth == 0 and mark in (",", "]"):
            return match.start()
        depth = depth + 1 if mark in ("[", "{") else max(depth - (mark in ("]", "}")), 0)
    return None


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
