"""Estimates of the tokens of a question, before its server counts them.

The teacher's tokenizer is not at hand, so each answer teaches. Two measures of a text are kept, its bytes and the
pieces that tokenizers tend to cut it into; the one that predicted the last thousand answers better is used. Its error
is known too, so that limits hold for the sum of what is in flight: errors of many questions cancel out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

# For what a chat template prints around a message.
_TOKENS_A_MESSAGE = 16
# High for a first guess (English has about a quarter): too low a one would overstep a limit with the first hundred
# questions.
_TOKENS_A_BYTE = 0.5
_FIRST_ERROR = 0.5
# About the last thousand answers count.
_MEMORY = 1 - 1 / 1000
# Expected until the first answer is counted.
_USUAL_ANSWER = 128
_PIECE = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|[^\sA-Za-z0-9]")


@dataclass(frozen=True)
class Size:
    """A question in bytes and in pieces, with something for what stands around each message.

    most_tokens: more no tokenizer makes of it that falls back to bytes.
    """

    bytes: int
    pieces: int
    most_tokens: int


def size_of(messages: Sequence[tuple[str, str]], *, exact: bool, beside: int = 0) -> Size:
    """Measure (role, content) messages; pieces are counted only where `exact`, since that takes a while.

    Args:
        beside: bytes of what is sent with them, their calls and tools.
    """
    length = sum(len(content.encode("utf-8", "replace")) for _, content in messages) + beside
    pieces = sum(sum(1 for _ in _PIECE.finditer(content)) for _, content in messages) + beside if exact else length
    count = len(messages)
    return Size(length + _TOKENS_A_MESSAGE * count, pieces + 4 * count, length + _TOKENS_A_MESSAGE * count)


class InputTokens:
    """Estimate of the input tokens of questions."""

    def __init__(self) -> None:
        self._by_bytes, self._by_pieces = _Ratio(), _Ratio()

    def expected(self, size: Size) -> float:
        """Estimate the tokens to count for a question that is not answered yet."""
        if not self._by_bytes.count:
            return size.bytes * _TOKENS_A_BYTE
        if self._by_pieces.error < self._by_bytes.error:
            return self._by_pieces.value * size.pieces
        return self._by_bytes.value * size.bytes

    def error(self) -> tuple[float, float]:
        """Return the standard deviation of a question's tokens from `expected`, and of the expectation itself,
        relative."""
        best = min(self._by_bytes, self._by_pieces, key=lambda ratio: ratio.error)
        return best.error, best.error / sqrt(best.count or 1)

    def learn(self, size: Size, tokens: int) -> None:
        self._by_bytes.learn(size.bytes, tokens)
        self._by_pieces.learn(size.pieces, tokens)


class OutputTokens:
    """Estimate of the output tokens of an answer: the average of those before it."""

    def __init__(self) -> None:
        self._sum = self._count = 0.0

    def expected(self, max_tokens: int | None) -> float:
        usual = self._sum / self._count if self._count else _USUAL_ANSWER
        return min(usual, max_tokens) if max_tokens is not None else usual

    def learn(self, tokens: int) -> None:
        self._sum = self._sum * _MEMORY + tokens
        self._count = self._count * _MEMORY + 1


class _Ratio:
    """Tokens a unit over the questions seen, the latest counting most, by sums of sizes s and tokens t."""

    def __init__(self) -> None:
        self.count = 0.0
        self.value = 0.0
        self.error = _FIRST_ERROR
        self._s = self._t = self._ss = self._st = self._tt = 0.0

    def learn(self, size: int, tokens: int) -> None:
        self.count = self.count * _MEMORY + 1
        self._s = self._s * _MEMORY + size
        self._t = self._t * _MEMORY + tokens
        self._ss = self._ss * _MEMORY + size * size
        self._st = self._st * _MEMORY + size * tokens
        self._tt = self._tt * _MEMORY + tokens * tokens
        self.value = self._t / self._s
        expected = self.value * self.value * self._ss
        off = max(self._tt - 2 * self.value * self._st + expected, 0.0)
        self.error = sqrt((off / expected if expected else 0.0) + _FIRST_ERROR**2 / self.count)
