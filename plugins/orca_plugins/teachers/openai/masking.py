"""Taking a key out of what a server says: in every spelling that a server or a proxy may echo it in.

Twelve characters of a key in a row are taken out with it, so that a shortened key does not pass. Bodies are parsed
first, since JSON can spell each letter in several ways.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

MASKED = "***"
_SECRET_CHARACTERS = 16
"""A key from this length on is masked in answers too; a shorter one (a local server's "none") is a word like others."""

_IN_A_ROW = 12
_GRAM = 6
_STEP = _IN_A_ROW - _GRAM + 1
"""Twelve characters in a row hold one whole piece of six that begins at a multiple of this."""


class Mask:
    """Finds one key in texts and bodies."""

    def __init__(self, key: str | None) -> None:
        self._key = key or ""
        spellings = set(_spellings(self._key)) if len(self._key) >= _SECRET_CHARACTERS else set()
        self._grams = tuple({spelt[at : at + _GRAM] for spelt in spellings for at in range(0, len(spelt), _STEP)})
        self._rows = {
            spelt[at : at + _IN_A_ROW] for spelt in spellings for at in range(max(len(spelt) - _IN_A_ROW + 1, 1))
        }

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
            masked = self.text(text, answer=answer)
            return said if masked == text else masked.encode("utf-8", "surrogateescape")
        masked = self._value(value, answer)
        return said if masked == value else json.dumps(masked).encode()

    def text(self, said: str, *, answer: bool = True) -> str:
        """Mask a text."""
        if not self._key:
            return said
        if not self._grams:
            return said if answer else said.replace(self._key, MASKED)
        if not any(gram in said for gram in self._grams):
            return said
        return self._without_rows(said)

    def _value(self, value: Any, answer: bool) -> Any:
        if isinstance(value, str):
            return self.text(value, answer=answer)
        if isinstance(value, list):
            return [self._value(inner, answer) for inner in value]
        if isinstance(value, dict):
            return {self.text(name, answer=answer): self._value(inner, answer) for name, inner in value.items()}
        return value

    def _without_rows(self, said: str) -> str:
        parts, begin, at = [], 0, 0
        while at <= len(said) - _IN_A_ROW:
            if said[at : at + _IN_A_ROW] not in self._rows:
                at += 1
                continue
            end = at + _IN_A_ROW
            while end < len(said) and said[end - _IN_A_ROW + 1 : end + 1] in self._rows:
                end += 1
            parts += [said[begin:at], MASKED]
            begin = at = end
        return "".join([*parts, said[begin:]])


def _spellings(key: str) -> Iterator[str]:
    """Yield the spellings of a key: as it is, escaped, for addresses, in hexadecimal and base64, backwards."""
    yield key
    yield key[::-1]
    yield json.dumps(key)[1:-1]
    yield "".join(f"\\u{ord(letter):04x}" for letter in key)
    yield "".join(f"%{ord(letter):02X}" for letter in key)
    yield quote(key, safe="")
    yield quote_plus(key)
    yield key.encode().hex()
    yield key.encode().hex().upper()
    for lead in ("", "\0", "\0\0"):
        # Where a key stands within what is encoded moves its letters: three alignments, without the ends that its
        # neighbours decide.
        told = base64.b64encode((lead + key).encode()).decode().rstrip("=")
        inner = told[(0, 2, 3)[len(lead)] : len(told) - 1]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
