"""The first row that holds each context, of a mixture's small collections: thousands of them are read once, not once
for each that follows.

Large collections are left out, and so are those beyond a bound of rows in all, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from orca_recipes.run.examples.row_digests import Digests

SMALL_ROWS = 1 << 16
"""Larger collections cost so much to read that reading them again is no matter beside their own draw."""
_ROWS_IN_ALL = 1 << 21
_KEY = "S16"
"""Both halves of a digest as they stand in bytes, which numpy can sort and search."""


@dataclass
class ContextHolders:
    """What was learnt of the first collections of a mixture, in its order.

    keys: of contexts, rising; collection and row: int64, where each stands first. seen: collections that were looked
    at. left_out: those of them that are not in here.
    """

    keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=_KEY))
    collection: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    row: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    seen: int = 0
    left_out: list[int] = field(default_factory=list)
    _learning: Lock = field(default_factory=Lock)

    def learn(self, count: int, examples: Callable[[int], tuple[np.ndarray, Digests] | None]) -> None:
        """Learn the first `count` collections, those that are new alone.

        Args:
            examples: gives the rows of a collection, int64 rising, with the digests of their contexts; None where it
                is too large.
        """
        with self._learning:
            for number in range(self.seen, count):
                found = examples(number)
                if found is None or len(self.keys) + len(found[0]) > _ROWS_IN_ALL:
                    self.left_out.append(number)
                else:
                    self._add(number, *found)
                self.seen = number + 1

    def first(self, digests: Digests, *, before: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the first row of the collections before one that holds each context.

        Returns: bool [rows], whether there is one; int64 [rows] twice, its collection and row.
        """
        with self._learning:
            keys, collection, row = self.keys, self.collection, self.row
        if not len(keys):
            nothing = np.zeros(len(digests[0]), dtype=np.int64)
            return nothing.astype(np.bool_), nothing, nothing
        wanted = _keys(digests)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        # A context's first holder is kept, so that later collections, if there are any here by now, change nothing.
        return (keys[place] == wanted) & (collection[place] < before), collection[place], row[place]

    def _add(self, number: int, rows: np.ndarray, digests: Digests) -> None:
        keys, first = np.unique(_keys(digests), return_index=True)
        place = np.searchsorted(self.keys, keys)
        if len(self.keys):
            new = self.keys[np.minimum(place, len(self.keys) - 1)] != keys
            keys, first, place = keys[new], first[new], place[new]
        # New arrays, not changed ones: whoever searches on another thread holds the old ones.
        self.collection = np.insert(self.collection, place, number)
        self.row = np.insert(self.row, place, rows[first])
        self.keys = np.insert(self.keys, place, keys)


def _keys(digests: Digests) -> np.ndarray:
    halves: Sequence[np.ndarray] = [half.astype(">u8") for half in digests]
    return np.ascontiguousarray(np.column_stack(halves)).view(_KEY).ravel()
