"""The tokens of the different texts of a part, as rows that are put in any order by copying whole rows of memory.

They are held as shards store them from the first copy on: two bytes a token where the vocabulary allows, and control
tokens are rows like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orca_recipes.run.segments.ragged import gathered_rows
from orca_recipes.shards.layout import token_dtype


@dataclass(frozen=True)
class Encoded:
    """Rows of tokens: those of each text, then each control token.

    tokens: [tokens] of `token_dtype`, or uint32 where a token would not fit, which whoever writes it refuses.
    starts: int64 [texts + control tokens + 1].
    """

    tokens: np.ndarray
    starts: np.ndarray

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[np.ndarray, np.ndarray]], controls: np.ndarray, vocabulary_size: int
    ) -> Encoded:
        """Put encodings (ids uint32, offsets int64) and control tokens one after the other."""
        narrow = token_dtype(vocabulary_size)
        # A fast tokenizer may give an id beyond its own vocabulary: cut to two bytes it would be another, valid token.
        fits = all(ids.max(initial=0) <= np.iinfo(narrow).max for ids, _ in parts)
        total = sum(len(ids) for ids, _ in parts)
        tokens = np.empty(total + len(controls), dtype=narrow if fits else np.uint32)
        starts, at = [np.zeros(1, dtype=np.int64)], 0
        for ids, offsets in parts:
            tokens[at : at + len(ids)] = ids
            starts.append(offsets[1:] + at)
            at += len(ids)
        tokens[at:] = controls
        return cls(tokens, np.concatenate([*starts, np.arange(1, len(controls) + 1) + at]))

    @property
    def counts(self) -> np.ndarray:
        """Return int64 [rows]: tokens of each."""
        return np.diff(self.starts)

    def gathered(self, rows: np.ndarray) -> np.ndarray:
        """Copy the tokens of some rows, one row after the other."""
        return gathered_rows(self.tokens, self.starts, rows)

    def holding(self, token: int, rows: int) -> np.ndarray:
        """Return bool [rows]: which of our first rows hold a token."""
        places = np.flatnonzero(self.tokens[: self.starts[rows]] == token)
        found = np.zeros(rows, dtype=bool)
        # Side right skips rows without tokens, which start where the row that holds the token does.
        found[np.searchsorted(self.starts, places, side="right") - 1] = True
        return found

    def differs(self, other: Encoded, rows: np.ndarray) -> np.ndarray:
        """Return bool [n]: where our first n rows are not those rows of the other."""
        counts = self.counts[: len(rows)]
        differs = counts != other.counts[rows]
        same = np.flatnonzero(~differs)
        unlike = self.gathered(same) != other.gathered(rows[same])
        differs[np.repeat(same, counts[same])[unlike]] = True
        return np.asarray(differs)
