"""Taking a key out of what a server says: in every spelling that a server or a proxy may echo it in.

Twelve characters of a key in a row are taken out, so that a shortened key does not pass. Case counts for nothing.
Bodies are parsed first, since JSON can spell each letter in several ways. A key with digits in it, as no words are, is
also found where other characters stand between its own: spaces, escapes, line breaks.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

MASKED = "***"
_SECRET_CHARACTERS = 16
"""A key from this length on is masked in answers too; a shorter one (a local server's "none") is a word like others."""
_MIXED_DIGITS = 4
"""A key with fewer digits may be words ("sk-no-key-required"), which answers say with spaces between."""

_IN_A_ROW = 12
_PIECE = 6
_SAMPLE = struct.Struct(f"{_PIECE}sx")
assert _SAMPLE.size == _IN_A_ROW - _PIECE + 1
_BETWEEN = bytes(set(range(256)) - set(b"abcdefghijklmnopqrstuvwxyz0123456789"))


class Mask:
    """Finds one key in texts and bodies."""

    def __init__(self, key: str | None) -> None:
        self._key = key or ""
        is_secret = len(self._key) >= _SECRET_CHARACTERS
        is_mixed = is_secret and sum(letter.isdigit() for letter in self._key) >= _MIXED_DIGITS
        exact, spread = list(_as_it_is(self._key)), list(_spelt(self._key))
        spelt = [*exact, *spread]
        self._exact = _Rows.of(exact if is_mixed else spelt) if is_secret else None
        self._spread = _Rows.of((_squeezed(told), row) for told, row in spelt) if is_mixed else None

    def body(self, said: bytes, *, answer: bool = True) -> bytes:
        """Mask a body, the strings of it where it is JSON; the same bytes where nothing is to be masked.

        Args:
            answer: whether it may be an answer; in one a short key is left alone.
        """
        if not self._key:
            return said
        text = said.decode("utf-8", "surrogateescape")
        without = self.text(text, answer=answer)
        try:
            value = json.loads(said)
        except (ValueError, RecursionError):
            return said if without == text else without.encode("utf-8", "surrogateescape")
        masked = self._value(value, answer)
        # Of a name that stands twice in a table parsing keeps the last: the text may hold what the value does not.
        return said if masked == value and without == text else json.dumps(masked).encode()

    def text(self, said: str, *, answer: bool = True) -> str:
        """Mask a text."""
        if not self._key:
            return said
        if self._exact is None:
            return said if answer else said.replace(self._key, MASKED)
        data = said.encode("utf-8", "surrogatepass")
        spans = self._spans(data.lower())
        if not spans:
            return said
        parts, begin = list[bytes](), 0
        for start, stop in spans:
            if start > begin or not parts:
                parts += [data[begin:start], MASKED.encode()]
            begin = max(begin, stop)
        return b"".join([*parts, data[begin:]]).decode("utf-8", "surrogatepass")

    def holds(self, said: str) -> bool:
        """Tell whether a text holds the key, in any spelling."""
        return self.text(said, answer=False) != said

    def _spans(self, low: bytes) -> list[tuple[int, int]]:
        """Find what is to be masked, sorted by where it begins."""
        spans = [] if self._exact is None else list(self._exact.found(low))
        inner = [] if self._spread is None else list(self._spread.found(low.translate(None, _BETWEEN)))
        if inner:
            places = [place for place, letter in enumerate(low) if letter not in _BETWEEN]
            spans += [(places[start], places[stop - 1] + 1) for start, stop in inner]
        return sorted(spans)

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


# --- spellings, each with the length of a row of it that holds twelve characters of the key -------------------------


def _as_it_is(key: str) -> Iterator[tuple[bytes, int]]:
    """Yield a key forwards and backwards."""
    yield key.encode(), _IN_A_ROW
    yield key[::-1].encode(), _IN_A_ROW


def _spelt(key: str) -> Iterator[tuple[bytes, int]]:
    """Yield a key as JSON and addresses escape it, escaped letter by letter, in hexadecimal and in base64."""
    in_address = quote(key, safe="")
    for told in (json.dumps(key)[1:-1], quote_plus(key), in_address, quote(in_address, safe="")):
        yield told.encode(), _IN_A_ROW
    yield "".join(f"%{ord(letter):02x}" for letter in key).encode(), 2 * _IN_A_ROW
    yield "".join(f"\\u{ord(letter):04x}" for letter in key).encode(), 5 * _IN_A_ROW
    yield "".join(f"\\x{ord(letter):02x}" for letter in key).encode(), 3 * _IN_A_ROW
    yield "".join(f"&#{ord(letter)};" for letter in key).encode(), 2 * _IN_A_ROW
    yield key.encode().hex().encode(), 2 * _IN_A_ROW
    for lead in (b"", b"\0", b"\0\0"):
        # Where a key stands within what is encoded moves its letters: three alignments, without the ends that its
        # neighbours decide.
        encoded = base64.b64encode(lead + key.encode()).rstrip(b"=")
        inner = encoded[(0, 2, 3)[len(lead)] : len(encoded) - 1]
        yield inner, _IN_A_ROW
        yield inner.replace(b"+", b"-").replace(b"/", b"_"), _IN_A_ROW
