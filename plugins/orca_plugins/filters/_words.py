"""The words of texts as numbers, and runs of n words (shingles) as numbers, on whole columns.

A word's number is a polynomial of its bytes, taken from one running sum over all texts, and mixed; a run's number is
one of its words' numbers. They find what may be equal; who must be sure compares the words (`words_of`). Nothing of a
library decides a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_recipes.contract.draws import splitmix64

if TYPE_CHECKING:
    import polars as pl

Manner = Literal["spaced", "plain"]
"""spaced: whatever stands between white space, in lower case. plain: runs of letters and digits alone."""

_BLOCK_BYTES = 1 << 17
# A table of 4 MB rules out most runs before the slower search in sorted numbers.
_TABLE_BITS = 22
# Odd, so that it has an inverse modulo 2**64 (`_powers`).
_BASE = np.uint64(0x9E3779B97F4A7C15)
# Odd, so that multiplying loses no bit of the words before.
_STEP = np.uint64(0xD6E8FEB86659FD93)
_WIDE_GAPS = {"spaced": r"\s+", "plain": r"[^\p{L}\p{M}\p{N}\x00-\x7f]+"}
_WORD: Mapping[Manner, re.Pattern[str]] = {
    "spaced": re.compile(r"[^\t\n\v\f\r\x1c-\x1f ]+"),
    "plain": re.compile(r"(?:[a-z0-9]|[^\x00-\x7f])+"),
}


@dataclass(frozen=True)
class Words:
    """numbers: uint64 [words] of all texts. starts: int64 [texts + 1], where each text's begin."""

    numbers: np.ndarray
    starts: np.ndarray

    def runs(self, size: int) -> Words:
        """Compute the runs of so many words in each text; a text with fewer words gives one run of all of them."""
        counts = np.diff(self.starts)
        per_text = np.where(counts >= size, counts - size + 1, (counts > 0).astype(np.int64))
        starts = np.concatenate([[0], np.cumsum(per_text)])
        padded = np.concatenate([self.numbers, np.zeros(size - 1, dtype=np.uint64)])
        made = padded[: len(self.numbers)].copy()
        for place in range(1, size):
            made *= _STEP
            made += padded[place : place + len(self.numbers)]
        whole = np.ones(len(made), dtype=np.bool_)
        for place in range(1, size):  # the last words of a text begin no run
            whole[(self.starts[1:] - place)[counts >= place]] = False
        for text in np.flatnonzero((counts > 0) & (counts < size)).tolist():
            first = self.starts[text]
            made[first] = _joined(self.numbers[first : self.starts[text + 1]].tolist())
            whole[first] = True
        return Words(splitmix64(made[whole]), starts)

    def growing(self, least: int, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each size from least to most the numbers of whole runs, and, uint32, the text of each."""
        counts = np.diff(self.starts)
        owner = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
        left = np.repeat(self.starts[1:], counts) - np.arange(len(owner))
        padded = np.concatenate([self.numbers, np.zeros(most - 1, dtype=np.uint64)])
        made = self.numbers.copy()
        for size in range(1, most + 1):
            if size > 1:
                made *= _STEP
                made += padded[size - 1 : size - 1 + len(made)]
            if size >= least:
                is_whole = left >= size
                yield splitmix64(made[is_whole]), owner[is_whole]


def normal(texts: pl.Series, manner: Manner) -> pl.Series:
    """Normalize texts to lower case, with only ASCII marks between words; null is empty."""
    import polars as pl

    found = texts.fill_null("").str.to_lowercase()
    is_wide = found.str.len_bytes() != found.str.len_chars()
    if not is_wide.any():
        return found
    wide = found.filter(is_wide)
    if manner == "plain":
        wide = wide.str.normalize("NFKC").str.to_lowercase()
    wide = wide.str.replace_all(_WIDE_GAPS[manner], " ")
    return found.scatter(pl.arg_where(is_wide, eager=True), wide)


def words_of(normalized: str, manner: Manner) -> list[str]:
    """Split a text from `normal` into words."""
    return _WORD[manner].findall(normalized)


def words(normalized: pl.Series, manner: Manner) -> Words:
    """Compute the words' numbers of texts from `normal`."""
    import pyarrow as pa

    array = pa.array(normalized.to_arrow()).cast(pa.large_string())
    bounds = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)
    inside = _letters(manner)
    numbers, counts, text = [np.empty(0, dtype=np.uint64)], [], 0
    while text < len(array):
        stop = int(np.searchsorted(bounds, bounds[text] + _BLOCK_BYTES, side="right")) - 1
        stop = min(max(stop, text + 1), len(array))
        found, per_text = _block(data[bounds[text] : bounds[stop]], bounds[text : stop + 1] - bounds[text], inside)
        numbers.append(found)
        counts.append(per_text)
        text = stop
    return Words(np.concatenate(numbers), np.concatenate([[0], *counts]).cumsum())


def _block(data: np.ndarray, bounds: np.ndarray, letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the words' numbers of a few texts, and the number of words in each."""
    # At least the block's size, so that nearly all calls share one cached table.
    power, inverse = _powers(max(len(data), _BLOCK_BYTES))
    inside = letters[data]
    edge = np.zeros(len(data) + 1, dtype=np.bool_)
    edge[bounds] = True
    before = np.concatenate([[False], inside[:-1]]) if len(data) else inside
    begins = np.flatnonzero(inside & (~before | edge[:-1]))
    after = np.concatenate([inside[1:], [False]]) if len(data) else inside
    ends = np.flatnonzero(inside & (~after | edge[1:])) + 1
    running = np.zeros(len(data) + 1, dtype=np.uint64)
    # + 1: a zero byte would add nothing, and words that differ by it would be equal.
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * power[: len(data)], out=running[1:])
    numbers = (running[ends] - running[begins]) * inverse[begins]
    return splitmix64(numbers), np.diff(np.searchsorted(begins, bounds))


@lru_cache
def _letters(manner: Manner) -> np.ndarray:
    """Return bool [256]: the bytes that words are made of."""
    word = re.compile(_WORD[manner])
    return np.array([byte > 127 or word.fullmatch(chr(byte)) is not None for byte in range(256)])


@dataclass(frozen=True)
class Runs:
    """An index of the runs of some texts in other texts.

    codes: int64, rising: an other text's number times `values`, and the number of a run that it has. asked: the runs of
    the texts that are asked of; numbers: int64, the number of each among the others', -1 where none has it.
    """

    codes: np.ndarray
    values: int
    asked: Words
    numbers: np.ndarray

    @classmethod
    def of(cls, asked: Words, others: Words, chosen: np.ndarray) -> Runs:
        """Index the runs of `asked` in `others`; only chosen runs of the others count (bool [runs])."""
        text = np.repeat(np.arange(len(others.starts) - 1), np.diff(others.starts))[chosen]
        values, number = np.unique(others.numbers[chosen], return_inverse=True)
        table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        table[values >> np.uint64(64 - _TABLE_BITS)] = True
        maybe = np.flatnonzero(table[asked.numbers >> np.uint64(64 - _TABLE_BITS)])
        numbers = np.full(len(asked.numbers), -1, dtype=np.int64)
        if len(values):
            place = np.minimum(np.searchsorted(values, asked.numbers[maybe]), len(values) - 1)
            numbers[maybe] = np.where(values[place] == asked.numbers[maybe], place, -1)
        return cls(once(text * len(values) + number.reshape(-1)), len(values), asked, numbers)

    def hold(self, asked: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell whether each run of a text occurs in another.

        Args:
            asked, others: int64 [pairs], a text that is asked of, and the other.
        Returns: bool and int64 [runs of all pairs]: whether it does, and the pair.
        """
        pair = np.repeat(np.arange(len(asked)), np.diff(self.asked.starts)[asked])
        numbers = self.numbers[places_of(self.asked, asked)]
        found = numbers >= 0
        maybe = np.flatnonzero(found)
        found[maybe] = is_among(others[pair[maybe]] * self.values + numbers[maybe], self.codes)
        return found, pair


def jaccard(runs: Words, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compute the Jaccard similarity of the sets of runs of each pair of texts; 0 where neither has a run.

    Args:
        runs: of all texts. one, other: int64 [pairs], the texts of each pair.
    """
    text = np.repeat(np.arange(len(runs.starts) - 1), np.diff(runs.starts))
    values, number = np.unique(runs.numbers, return_inverse=True)
    codes = once(text * len(values) + number.reshape(-1))
    starts = np.searchsorted(codes, np.arange(len(runs.starts)) * len(values))
    sets = Words(codes, starts)
    pair = np.repeat(np.arange(len(one)), np.diff(starts)[one])
    wanted = codes[places_of(sets, one)] + (other - one)[pair] * len(values)
    shared = np.bincount(pair[is_among(wanted, codes)], minlength=len(one))
    sizes = np.diff(starts)
    return np.asarray(shared / np.maximum(sizes[one] + sizes[other] - shared, 1))


def is_among(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return bool [values]: which stand among the known ones, which rise."""
    if not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values)


def places_of(runs: Words, asked: np.ndarray) -> np.ndarray:
    """Return int64: the places of the runs of some texts, text after text."""
    counts = np.diff(runs.starts)[asked]
    return np.asarray(np.arange(counts.sum()) + np.repeat(runs.starts[asked] - (np.cumsum(counts) - counts), counts))


def covered_words(there: np.ndarray, pair: np.ndarray, pairs: int, size: int) -> np.ndarray:
    """Return int64 [pairs]: how many words stand in the runs of so many words that are there; as `Runs.hold`
    answers."""
    at = np.flatnonzero(there)
    added = np.full(len(at), size)
    is_same = pair[at[1:]] == pair[at[:-1]]
    added[1:][is_same] = np.minimum(np.diff(at)[is_same], size)
    return np.bincount(pair[at], weights=added, minlength=pairs).astype(np.int64)


def once(values: np.ndarray) -> np.ndarray:
    """Sort values and drop repeats, five times as fast as numpy's `unique`, which hashes since 2.3."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), dtype=np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(ordered[is_new])


def _joined(numbers: list[int]) -> np.uint64:
    """Hash all words of a text that is too short for a full run into one run's number, modulo 2**64."""
    made = len(numbers)
    for number in numbers:
        made = (made * int(_STEP) + number) & (1 << 64) - 1
    return np.uint64(made)


@lru_cache(maxsize=2)
def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return powers of the base and of its inverse, modulo 2**64."""
    inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
    return tuple(  # type: ignore[return-value]
        np.concatenate([[np.uint64(1)], np.cumprod(np.full(length - 1, base, dtype=np.uint64))])
        for base in (_BASE, inverse)
    )
