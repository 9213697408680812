"""In which order rows are trained on: a keyed bijection, so that a position in a phase is one integer.

Nothing is shuffled in memory and nothing is stored: the row at a position is computed, in the same time for ten rows
or ten million, and a resumed run goes on at the next integer. Our own rounds decide the order, no library's generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_ROUNDS = 6
# Python's integers grow without end: products are cut to the 64 bits that the algorithm is defined on.
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class KeyedOrder:
    """A permutation of 0 .. size - 1, decided by a key.

    A Feistel network over the smallest even number of bits that holds `size`, walked along its cycle until it falls
    inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", section 4): at most four steps on average.
    """

    size: int
    key: str

    def __getitem__(self, position: int) -> int:
        """Raises: IndexError outside of 0 .. size - 1."""
        if not 0 <= position < self.size:
            raise IndexError(f"position {position} is outside of 0 to {self.size - 1}")
        place = self._step(position)
        while place >= self.size:
            place = self._step(place)
        return place

    @cached_property
    def _half_bits(self) -> int:
        return max(1, -(-(self.size - 1).bit_length() // 2))

    @cached_property
    def _round_keys(self) -> tuple[int, ...]:
        digest = hashlib.blake2b(self.key.encode(), digest_size=8 * _ROUNDS).digest()
        return tuple(int.from_bytes(digest[at : at + 8], "little") for at in range(0, len(digest), 8))

    def _step(self, value: int) -> int:
        bits = self._half_bits
        mask = (1 << bits) - 1
        left, right = value >> bits, value & mask
        for key in self._round_keys:
            # SplitMix64's finalizer (Steele, Lea and Flood), written out: a call of its own would cost as much again.
            mixed = ((right ^ key) + 0x9E3779B97F4A7C15) & _WORD
            mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
            left, right = right, left ^ ((mixed ^ (mixed >> 31)) & mask)
        return left << bits | right


@dataclass(frozen=True)
class RowPlace:
    """A row to train on: of which dataset, which of its rows, and how often it was gone through before."""

    dataset: str
    row: int
    epoch: int


@dataclass(frozen=True)
class PhaseOrder:
    """The rows of one phase, by position.

    Each dataset is gone through epoch after epoch, each epoch in an order of its own; several datasets are dealt in
    step with their rows, so that each is spread evenly over the phase and all end together.

    seed, phase: with dataset and epoch, the key of an order. held: rows that each dataset holds.
    taken: rows that the phase trains on of each dataset, epochs counted.
    """

    seed: int
    phase: int
    held: Mapping[str, int]
    taken: Mapping[str, int]

    @cached_property
    def rows(self) -> int:
        return sum(self.taken.values())

    def __getitem__(self, position: int) -> RowPlace:
        """Raises: IndexError outside of 0 .. rows - 1."""
        if not 0 <= position < self.rows:
            raise IndexError(f"position {position} is outside of 0 to {self.rows - 1}")
        dataset, before = self._dealt(position)
        epoch, within = divmod(before, self.held[dataset])
        return RowPlace(dataset, self._epoch_order(dataset, epoch)[within], epoch)

    def _dealt(self, position: int) -> tuple[str, int]:
        """Find the dataset of a position, and its number of rows before that position."""
        rest = self.rows
        for dataset, taken in self.taken.items():
            before = position * taken // rest
            if (position + 1) * taken // rest > before:
                return dataset, before
            position, rest = position - before, rest - taken
        raise AssertionError("the last dataset takes every position that is left")

    def _epoch_order(self, dataset: str, epoch: int) -> KeyedOrder:
        known = self._orders.get(dataset)
        if known is None or known[0] != epoch:
            key = f"{self.seed}\x1f{self.phase}\x1f{epoch}\x1f{dataset}"
            known = self._orders[dataset] = (epoch, KeyedOrder(self.held[dataset], key))
        return known[1]

    @cached_property
    def _orders(self) -> dict[str, tuple[int, KeyedOrder]]:
        """Return the order of each dataset's present epoch: derived, kept because its keys cost more than a row
        does."""
        return {}
