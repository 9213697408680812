"""Text of spans of tokens, such that the spans' texts joined are the text of all tokens.

A span decoded by itself loses what its neighbours decide: decoders take away a leading space, and a character may be
spread over tokens on both sides of a bound. So each span is decoded after the one before it, and what that one gives
alone is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from orca_recipes.shards.files import damage

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer


_OPEN = "\ufffd"
"""What decoders give for bytes that are no whole character."""


class SpanDecoder:
    """Decodes by a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        """Raises: DamagedShard where the file cannot be loaded."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            # The package raises bare Exception for whatever it cannot load.
            raise damage(path, f"it cannot be loaded as a tokenizer ({error})") from error

    def texts(self, ids: Sequence[int], bounds: Sequence[int]) -> list[str]:
        """Decode each span so that the joined texts are the text of all tokens.

        Args:
            ids: tokens of one example.
            bounds: [spans + 1], rising, from 0 to len(ids).
        """
        texts: list[str] = []
        # The first token once more stands for what comes before the first span, so that a leading space is kept.
        before = list(ids[:1])
        for start, stop in pairwise(bounds):
            span = list(ids[start:stop])
            alone, whole = self._decode(before), self._decode(before + span)
            known = _common(alone, whole)
            _take_back(texts, len(alone) - len(known))
            texts.append(whole[len(known) :])
            # A character that is still open may be completed by the span after.
            before = before + span if whole.endswith(_OPEN) else span
        return texts

    def _decode(self, ids: list[int]) -> str:
        if all(self._tokenizer.id_to_token(token) is not None for token in ids):
            return str(self._tokenizer.decode(ids, skip_special_tokens=False))
        return "".join(self._tokenizer.id_to_token(token) or f"⟨no token {token}⟩" for token in ids)


def _take_back(texts: list[str], count: int) -> None:
    """Take so many characters from the end: signs for bytes that the next span makes a character of."""
    for place in range(len(texts) - 1, -1, -1):
        if not count:
            return
        taken = min(count, len(texts[place]))
        texts[place] = texts[place][: len(texts[place]) - taken]
        count -= taken


def _common(alone: str, whole: str) -> str:
    """Return the common start of both texts; `alone` may end in a character that only `whole` completes."""
    while not whole.startswith(alone):
        alone = alone[:-1]
    return alone
