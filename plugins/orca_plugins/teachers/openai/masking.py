"""Take a key out of a server's words, in every spelling a server or proxy may echo.

Twelve characters of a key in a row are taken out, so that a shortened key does not pass. Case counts for nothing.
Bodies are parsed first, since JSON can spell each letter in several ways. A key with digits in it, as no words are, is
also found where other characters stand between its own: spaces, escapes, line breaks.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MASKED = "***"
_SECRET_CHARACTERS = 16
"""A key from this length on is masked in answers too; a shorter one (a local server's "none") is a word like others."""
_MIXED_DIGITS = 4
"""A key with fewer digits may be words ("sk-no-key-required"), which answers say with spaces between."""

_IN_A_ROW = 12
_PIECE = 6
_SAMPLE = struct.Struct(f"{_PIECE}sx")
assert _SAMPLE.size == _IN_A_ROW - _PIECE + 1
_MARKS = (b"\\", b"%", b"&#")
_HEX = b"[0-9a-fA-F]"
_ESCAPE = re.compile(
    rb"\\+(?:[uU](%b{4})|[xX](%b{2})|(?=[\"/]))|%%(%b{2})|&#(?:[xX](%b{1,6})|([0-9]{1,7}));|\\+[nrtbf]" % ((_HEX,) * 4)
)
_BETWEEN = bytes(set(range(256)) - set(b"abcdefghijklmnopqrstuvwxyz0123456789"))


class Mask:
    """Finds one key in texts and bodies."""

    def __init__(self, key: str | None) -> None:
        self._key = key or ""
        is_secret = len(self._key) >= _SECRET_CHARACTERS
        is_mixed = is_secret and sum(letter.isdigit() for letter in self._key) >= _MIXED_DIGITS
        spelt = list(_spelt(self._key))
        self._exact = _Rows.of(spelt) if is_secret else None
        self._spread = _Rows.of((_squeezed(told), row) for told, row in spelt) if is_mixed else None

    def body(self, said: bytes, *, answer: bool = True) -> bytes:
        """Mask a body, the strings of it where it is JSON; the same bytes where nothing is to be masked.

        Args:
            answer: whether it may be an answer; in one a short key is left alone.
        """
        if not self._key:
            return said
        try:
            value = json.loads(said)
        except (ValueError, RecursionError):
            text = said.decode("utf-8", "surrogateescape")
            without = self.text(text, answer=answer)
            return said if without == text else without.encode("utf-8", "surrogateescape")
        masked = self._value(value, answer)
        # Of a name that stands twice in a table parsing keeps the last: the text may hold what the value does not.
        return said if masked == value and self._masked(said) is None else json.dumps(masked).encode()

    def text(self, said: str, *, answer: bool = True) -> str:
        """Mask a text."""
        if not self._key:
            return said
        if self._exact is None:
            return said if answer else said.replace(self._key, MASKED)
        data = said.encode("utf-8", "surrogatepass")
        masked = self._masked(data)
        # A key of which only some letters are escaped stands in what the text says, not in how that is written.
        if any(mark in data for mark in _MARKS):
            masked = self._masked(_undone(masked or data)) or masked
        return said if masked is None else masked.decode("utf-8", "surrogatepass")

    def holds(self, said: str) -> bool:
        """Tell whether a text holds the key, in any spelling."""
        return self.text(said, answer=False) != said

    def _masked(self, data: bytes) -> bytes | None:
        """Mask a text; None where nothing is to be masked."""
        low = data.lower()
        spans = [] if self._exact is None else list(self._exact.found(low))
        inner = [] if self._spread is None else list(self._spread.found(low.translate(None, _BETWEEN)))
        if inner:
            places = [place for place, letter in enumerate(low) if letter not in _BETWEEN]
            spans += [(places[start], places[stop - 1] + 1) for start, stop in inner]
        parts, begin = list[bytes](), 0
        for start, stop in sorted(spans):
            if start > begin or not parts:
                parts += [data[begin:start], MASKED.encode()]
            begin = max(begin, stop)
        return b"".join([*parts, data[begin:]]) if spans else None

    def _value(self, value: Any, answer: bool) -> Any:
        if isinstance(value, str):
            return self.text(value, answer=answer)
        if isinstance(value, list):
            return self._list(value, answer)
        if isinstance(value, dict):
            return {self.text(name, answer=answer): self._value(inner, answer) for name, inner in value.items()}
        if isinstance(value, int | float) and abs(value) >= 10 ** (_IN_A_ROW - 1):
            told = self.text(str(value), answer=answer)
            return value if told == str(value) else told
        return value

    def _list(self, values: list[Any], answer: bool) -> list[Any]:
        """Mask each value, and what texts of one name make when they are joined: pieces of an answer are."""
        masked = [self._value(inner, answer) for inner in values]
        holders = [inner if isinstance(inner, dict) else {"": inner} for inner in masked]
        for name in dict.fromkeys(name for holder in holders for name in holder) if len(masked) > 1 else ():
            mine = [holder for holder in holders if isinstance(holder.get(name), str)]
            joined = "".join(holder[name] for holder in mine)
            if len(mine) > 1 and (told := self.text(joined, answer=answer)) != joined:
                for place, holder in enumerate(mine):
                    holder[name] = "" if place else told
        return [inner if isinstance(inner, dict) else holder[""] for inner, holder in zip(masked, holders, strict=True)]


@dataclass(frozen=True)
class _Rows:
    """All rows of some spellings by their length, and all pieces of six in them: each row in a text holds one whole
    piece that begins at a multiple of seven, so that looking there alone finds every text to be searched."""

    by_length: Mapping[int, frozenset[bytes]]
    pieces: frozenset[tuple[bytes]]

    @classmethod
    def of(cls, spellings: Iterable[tuple[bytes, int]]) -> _Rows:
        """Take spellings, each with how long a row of it gives the key away."""
        by_length: dict[int, set[bytes]] = {}
        pieces: set[tuple[bytes]] = set()
        for spelt, row in spellings:
            if len(spelt) >= _IN_A_ROW:
                low, length = spelt.lower(), min(row, len(spelt))
                by_length.setdefault(length, set()).update(low[at : at + length] for at in range(len(low) - length + 1))
                pieces.update((low[at : at + _PIECE],) for at in range(len(low) - _PIECE + 1))
        return cls({length: frozenset(rows) for length, rows in by_length.items()}, frozenset(pieces))

    def found(self, low: bytes) -> Iterator[tuple[int, int]]:
        """Yield where rows stand, those that go over into each other as one."""
        padded = low.ljust(-(-len(low) // _SAMPLE.size) * _SAMPLE.size)
        if self.pieces.isdisjoint(_SAMPLE.iter_unpack(padded)):
            return
        for length, rows in self.by_length.items():
            at = 0
            while at <= len(low) - length:
                if low[at : at + length] not in rows:
                    at += 1
                    continue
                end = at + length
                while end < len(low) and low[end - length + 1 : end + 1] in rows:
                    end += 1
                yield at, end
                at = end


def _squeezed(spelt: bytes) -> bytes:
    return spelt.lower().translate(None, _BETWEEN)


def _undone(data: bytes) -> bytes:
    """Undo escapes of JSON, addresses and pages, twice; what they say beyond ASCII becomes a space."""
    for _ in range(2):
        data = _ESCAPE.sub(_said, data)
    return data


def _said(escape: re.Match[bytes]) -> bytes:
    digits, decimal = escape[1] or escape[2] or escape[3] or escape[4], escape[5]
    number = int(digits, 16) if digits else int(decimal) if decimal else 32
    return bytes([number]) if 32 <= number < 127 else b" "


def _spelt(key: str) -> Iterator[tuple[bytes, int]]:
    """Yield the spellings of a key, each with the length of a row that gives twelve of its characters away."""
    yield key.encode(), _IN_A_ROW
    yield key[::-1].encode(), _IN_A_ROW
    yield key.encode().hex().encode(), 2 * _IN_A_ROW
    for lead in (b"", b"\0", b"\0\0"):
        # Where a key stands within what is encoded moves its letters: three alignments, without the ends that its
        # neighbours decide.
        encoded = base64.b64encode(lead + key.encode()).rstrip(b"=")
        inner = encoded[(0, 2, 3)[len(lead)] : len(encoded) - 1]
        yield inner, _IN_A_ROW
        yield inner.replace(b"+", b"-").replace(b"/", b"_"), _IN_A_ROW
