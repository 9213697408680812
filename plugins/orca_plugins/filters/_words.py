"""The words of texts as numbers, and runs of n words (shingles) as numbers, on whole columns.

A word's number is mixed from its bytes, eight at a time; a run's number is a polynomial of its words' numbers. They
find what may be equal; who must be sure compares the words (`words_of`). Nothing of a library decides a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_recipes.contract.comparison import KNOWN_BITS
from orca_recipes.contract.draws import splitmix64

if TYPE_CHECKING:
    import polars as pl

MayHold = Callable[[np.ndarray], np.ndarray]
Manner = Literal["spaced", "plain"]
"""spaced: whatever stands between white space, in lower case. plain: runs of letters and digits alone."""

_BLOCK_BYTES = 1 << 17
_WORDS_AT_ONCE = 1 << 14
# A table of 4 MB rules out most runs before the slower search in sorted numbers.
_TABLE_BITS = 22
_BASE = np.uint64(0x9E3779B97F4A7C15)
# Odd, so that multiplying loses no bit of the words before.
_STEP = np.uint64(0xD6E8FEB86659FD93)
_GROUP_BITS = np.uint64(8)
_GROUP = 1 << int(_GROUP_BITS)
"""Texts whose sets are sorted at once, in the cache; of a run's number 56 bits stay, so that two runs of a pair of
texts of 1,000 words are taken for one with a chance of about 1e-11."""
_NUMBER_BITS = np.uint64(64) - _GROUP_BITS
_NUMBER = (np.uint64(1) << _NUMBER_BITS) - np.uint64(1)
_PIECE = 8
"""Bytes of a word that are read at once."""
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(_PIECE + 1)], dtype=np.uint64)
_LOWER = bytes(range(256)).lower()
_GAP = 0xFF
"""No byte of UTF-8."""
_HEAD_BITS = KNOWN_BITS + 1
_HEAD = np.uint64((1 << _HEAD_BITS) - 1 << 64 - _HEAD_BITS)
# ASCII's gaps are seen to byte by byte, and a pattern that matches each of them is five times as slow.
_WIDE_GAPS = {"spaced": r"[\s&&[^\x00-\x7f]]+", "plain": r"[^\p{L}\p{M}\p{N}\x00-\x7f]+"}
_STABLE = (
    r"\x00-\x7f\x{c0}-\x{ff}\x{400}-\x{482}\x{48a}-\x{52f}\x{2010}\x{2012}-\x{2016}\x{2018}-\x{2023}\x{20a0}-\x{20a7}"
    r"\x{20a9}-\x{20bf}\x{3001}-\x{3029}\x{3041}-\x{3096}\x{30a1}-\x{30fa}\x{4e00}-\x{9fff}"
)
_MAY_CHANGE = f"[^{_STABLE}]"
"""What no text holds that is NFKC as it stands: everyday letters and quotation marks are known to be, and normalizing
costs more than all else."""
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
        made = np.empty_like(self.numbers)
        for start in range(0, len(made), _WORDS_AT_ONCE):
            piece = made[start : start + _WORDS_AT_ONCE]
            piece[:] = self.numbers[start : start + _WORDS_AT_ONCE]
            for place in range(start + 1, start + size):
                piece *= _STEP
                piece += padded[place : place + len(piece)]
            piece[:] = splitmix64(piece)
        whole = np.ones(len(made), dtype=np.bool_)
        for place in range(1, size):  # the last words of a text begin no run
            whole[(self.starts[1:] - place)[counts >= place]] = False
        for text in np.flatnonzero((counts > 0) & (counts < size)).tolist():
            first = self.starts[text]
            made[first] = splitmix64(_joined(self.numbers[first : self.starts[text + 1]].tolist()))[0]
            whole[first] = True
        return Words(made[whole], starts)

    def of(self, chosen: np.ndarray) -> Words:
        """Select the words of some texts; all others (bool [texts]) keep none."""
        counts = np.where(chosen, np.diff(self.starts), 0)
        return Words(self.numbers[np.repeat(chosen, np.diff(self.starts))], np.concatenate([[0], counts.cumsum()]))

    def headed(self, size: int, head: int) -> Words:
        """Compute the runs as `runs` does, but with numbers as `growing` gives them, whose head is so many words."""
        found = self.runs(size)
        numbers, counts = found.numbers.copy(), np.diff(self.starts)
        whole = np.repeat(counts >= size, np.diff(found.starts))
        numbers[whole], _ = self.whole_runs(size, head)
        return Words(numbers, found.starts)

    def whole_runs(self, size: int, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute the numbers of whole runs as `growing` gives them, and, uint32, the text of each."""
        ((owner, numbers),) = self._growing(head, size, size, None)
        return numbers, owner

    def growing(
        self, least: int, most: int, may_hold: MayHold | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each size from least to most the numbers of whole runs, and, uint32, the text of each.

        The first bits of a number are decided by the run's first `least` words, its head.

        Args:
            may_hold: bool [numbers], whether a run with these first bits is wanted; all others are left out unmade.
        """
        for owner, numbers in self._growing(least, least, most, may_hold):
            yield numbers, owner

    def _growing(
        self, head: int, least: int, most: int, may_hold: MayHold | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each size the text of each whole run, and its number, in the order of the words."""
        made = self.numbers[: max(len(self.numbers) - head + 1, 0)].copy()
        for place in range(1, head):
            made *= _STEP
            made += self.numbers[place : place + len(made)]
        wanted = np.ones(len(made), dtype=np.bool_) if may_hold is None else may_hold(made)
        for place in range(1, head):  # the last words of a text begin no run
            ends = self.starts[1:] - place
            wanted[ends[(ends >= self.starts[:-1]) & (ends < len(made))]] = False
        at = np.flatnonzero(wanted)
        made = made[at]
        heads = made & _HEAD
        counts = np.diff(np.searchsorted(at, self.starts))
        owner = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
        left = self.starts[1:][owner] - at
        padded = np.concatenate([self.numbers, np.zeros(most, dtype=np.uint64)])
        for size in range(head, most + 1):
            if size > head:
                made *= _STEP
                made += padded[at + (size - 1)]
            if size >= least:
                is_whole = left >= size
                numbers = heads[is_whole] | splitmix64(made[is_whole]) >> np.uint64(_HEAD_BITS)
                yield owner[is_whole], numbers


def normal(texts: pl.Series, manner: Manner) -> pl.Series:
    """Normalize texts to lower case, with only ASCII marks between words; null is empty."""
    import polars as pl

    found = texts.fill_null("").str.to_lowercase()
    is_wide = found.str.len_bytes() != found.str.len_chars()
    if not is_wide.any():
        return found
    return found.scatter(pl.arg_where(is_wide, eager=True), _normal_wide(found.filter(is_wide), manner))


def _normal_wide(wide: pl.Series, manner: Manner) -> pl.Series:
    """Normalize texts of lower case that hold more than ASCII."""
    import polars as pl

    if manner == "plain":
        may_change = wide.str.contains(_MAY_CHANGE)
        if may_change.any():
            found_there = wide.filter(may_change).str.normalize("NFKC").str.to_lowercase()
            wide = wide.scatter(pl.arg_where(may_change, eager=True), found_there)
    return wide.str.replace_all(_WIDE_GAPS[manner], " ")


def words_of(normalized: str, manner: Manner) -> list[str]:
    """Split a text from `normal` into words."""
    return _WORD[manner].findall(normalized)


def words(texts: pl.Series, manner: Manner) -> Words:
    """Compute the words' numbers of texts, as they come or from `normal`; null is empty."""
    data, bounds = _narrowed(texts.fill_null("") + "\n", manner)
    table = _letters(manner)
    numbers, counts, text = [np.empty(0, dtype=np.uint64)], [], 0
    while text < len(texts):
        stop = int(np.searchsorted(bounds, bounds[text] + _BLOCK_BYTES, side="right")) - 1
        stop = min(max(stop, text + 1), len(texts))
        block = bytes(data[bounds[text] : bounds[stop]])
        found, per_text = _block(block, bounds[text : stop + 1] - bounds[text], table)
        numbers.append(found)
        counts.append(per_text)
        text = stop
    return Words(np.concatenate(numbers), np.concatenate([[0], *counts]).cumsum())


def _narrowed(texts: pl.Series, manner: Manner) -> tuple[memoryview, np.ndarray]:
    """Return texts as `_stored` does, normalized where they hold more than ASCII; case and gaps of the others are seen
    to byte by byte."""
    import polars as pl

    data, bounds = _stored(texts)
    high = np.flatnonzero(np.frombuffer(data, dtype=np.uint8)[bounds[0] : bounds[-1]] > 127)
    if not len(high):
        return data, bounds
    wide = once(np.searchsorted(bounds - bounds[0], high, side="right") - 1)
    made, ends = _stored(_normal_wide(texts.gather(pl.Series(wide)).str.to_lowercase(), manner))
    pieces, at = list[memoryview](), bounds[0]
    for text, start, stop in zip(wide.tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        pieces += [data[at : bounds[text]], made[start:stop]]
        at = bounds[text + 1]
    lengths = np.diff(bounds)
    lengths[wide] = np.diff(ends)
    return memoryview(b"".join([*pieces, data[at : bounds[-1]]])), np.concatenate([[0], lengths.cumsum()])


def _stored(texts: pl.Series) -> tuple[memoryview, np.ndarray]:
    """Return texts as one buffer of bytes, and where each begins in it and the last ends."""
    import pyarrow as pa

    array = pa.array(texts.to_arrow()).cast(pa.large_string())
    bounds = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(array.buffers()[2] or b""), bounds


def _block(text: bytes, bounds: np.ndarray, table: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Compute the words' numbers of a few texts, and the number of words in each.

    Args:
        text: the texts one after the other, a gap behind each. bounds: where each begins, and the last ends. table: of
            `_letters`.
    """
    data = np.frombuffer(text.translate(table) + bytes(_PIECE), dtype=np.uint8)
    inside = np.zeros(len(text) + 1, dtype=np.bool_)
    np.not_equal(data[: len(text)], _GAP, out=inside[1:])
    # Words begin and end in turn, since a gap stands before the first and behind the last.
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    first, last = edges[::2], edges[1::2]
    return _numbers(data, first, last - first), np.diff(np.searchsorted(first, bounds))


def _numbers(data: np.ndarray, first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mix the bytes of words to numbers: uint64 [words].

    Args:
        data: uint8, eight bytes longer than the text. first, lengths: int64 [words].
    """
    pieces = np.ndarray((len(data) - _PIECE + 1,), dtype="<u8", buffer=data, strides=(1,))
    numbers = pieces[first] & _FIRST_BYTES[np.minimum(lengths, _PIECE)]
    numbers = splitmix64(numbers + lengths.astype(np.uint64) * _STEP)
    long = np.flatnonzero(lengths > _PIECE)
    if len(long):
        more = (lengths[long] - 1) // _PIECE
        ends = np.cumsum(more)
        place = np.arange(1, ends[-1] + 1) - np.repeat(ends - more, more)
        at = np.repeat(first[long], more) + place * _PIECE
        left = np.repeat(lengths[long], more) - place * _PIECE
        mixed = splitmix64(pieces[at] & _FIRST_BYTES[np.minimum(left, _PIECE)])
        # At least the block's size, so that nearly all calls share one cached table.
        mixed *= _powers(max(int(more.max()) + 1, _BLOCK_BYTES // _PIECE))[place]
        numbers[long] = splitmix64(numbers[long] + np.add.reduceat(mixed, ends - more))
    return numbers


@lru_cache
def _letters(manner: Manner) -> bytes:
    """Translate the 256 bytes: those that words are made of to lower case, all others to `_GAP`."""
    word = re.compile(_WORD[manner])
    is_letter = [byte > 127 or word.fullmatch(chr(byte).lower()) is not None for byte in range(256)]
    return bytes(lower if letter else _GAP for lower, letter in zip(_LOWER, is_letter, strict=True))


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
    sets = _sets(runs)
    shared = np.zeros(len(one), dtype=np.int64)
    for start in range(0, len(one), _GROUP):
        sides = [side[start : start + _GROUP] for side in (one, other)]
        # Of each pair all runs of both, two rising halves: a stable sort merges them, and equal ones are neighbours.
        found = np.concatenate([_numbered(sets, side) for side in sides])
        found.sort(kind="stable")
        pair = found[1:][found[1:] == found[:-1]] >> _NUMBER_BITS
        shared[start : start + _GROUP] = np.bincount(pair.astype(np.int64), minlength=len(sides[0]))
    sizes = np.diff(sets.starts)
    return np.asarray(shared / np.maximum(sizes[one] + sizes[other] - shared, 1))


def _sets(runs: Words) -> Words:
    """Return the numbers of each text's runs, each once and rising, cut to the bits that a group of texts leaves."""
    numbers, counts = [np.empty(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    texts = np.arange(len(runs.starts) - 1)
    for start in range(0, len(texts), _GROUP):
        found = once(_numbered(runs, texts[start : start + _GROUP], cut=True))
        counts.append(
            np.bincount((found >> _NUMBER_BITS).astype(np.int64), minlength=len(texts[start : start + _GROUP]))
        )
        numbers.append(found & _NUMBER)
    return Words(np.concatenate(numbers), np.concatenate([[0], *counts]).cumsum())


def _numbered(runs: Words, texts: np.ndarray, *, cut: bool = False) -> np.ndarray:
    """Return the runs of at most a group of texts, each with the place of its text in its first bits.

    Args:
        cut: whether numbers have all their bits yet.
    """
    numbers = runs.numbers[places_of(runs, texts)]
    places = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(runs.starts)[texts])
    return np.asarray(places << _NUMBER_BITS | (numbers >> _GROUP_BITS if cut else numbers))


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


def _joined(numbers: list[int]) -> np.ndarray:
    """Join all words of a text that is too short for a full run to one number, uint64 [1], modulo 2**64."""
    made = len(numbers)
    for number in numbers:
        made = (made * int(_STEP) + number) & (1 << 64) - 1
    return np.array([made], dtype=np.uint64)


@lru_cache(maxsize=2)
def _powers(length: int) -> np.ndarray:
    """Return powers of the base, modulo 2**64."""
    return np.concatenate([[np.uint64(1)], np.cumprod(np.full(length - 1, _BASE, dtype=np.uint64))])
