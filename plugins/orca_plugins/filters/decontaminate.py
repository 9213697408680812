"""A filter against benchmarks: it rejects conversations that share runs of words with a benchmark item.

A run is half as long as the shortest item searched in pieces (`ngram`), so an item of that length with one changed word
still has a run to match. Every match is verified on the words themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, groupby, zip_longest
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from orca_plugins.filters._words import (
    MayHold,
    Runs,
    Words,
    covered_words,
    is_among,
    normal,
    once,
    places_of,
    words,
    words_of,
)
from orca_recipes.contract.comparison import Comparison, KnownKeys, Sketch

if TYPE_CHECKING:
    import polars as pl

_FEWEST = 3
"""Words of the shortest item that is looked for: "yes" is no sign of anything."""
# A run that many items share is the form of the benchmark ("which of the following is"), and tells of none of them.
_SHARING = 20
"""Runs that more items of a benchmark hold are its form, not an item."""
_RUNS = 2
"""Of an item that a short text is a part of, so many of its runs at least stand there."""
_SYMBOLIC = 4
"""Of so many marks of a text one is a symbol: then words alone do not say what it is ("not ( True ) and ( True )")."""
_SYMBOL = re.compile(r"[^\w\s.,;:!?'\"`]")
_MARK = re.compile(rf"[^\W_]+|{_SYMBOL.pattern}")


class Decontaminate(Comparison):
    """Reject conversations whose question or answer holds an item of a benchmark.

        filters = [{ kind = "decontaminate", against = ["gsm8k_test"], ngram = 13, fraction = 0.5 }]

    An item is found in a text that holds `fraction` of its words in runs of more than half of `ngram` words, or whose
    own words stand in it to that share; half of the rest too where an item twice as long as `ngram` has no run of
    `ngram` words there. Runs that more than 20 items share count for none of them. Items of fewer than
    `ngram` words are found whole: anywhere, or as a line of their own where they are no longer than half of that. Case,
    punctuation and white space do not count, but where an item is mostly symbols these must be the same. Reference
    answers of items are looked for where they have `ngram` words. Items of one or two words are looked for nowhere.
    """

    kind: Literal["decontaminate"] = "decontaminate"
    revision: ClassVar[int] = 2
    against: Annotated[tuple[str, ...], Field(min_length=1, description="collections that are benchmarks")]
    ngram: Annotated[
        int, Field(ge=6, le=50, description="items of fewer words are found whole, longer ones in pieces")
    ] = 13
    fraction: Annotated[
        float,
        Field(gt=0, le=1, description="the share of an item's words, or of a text's, that tells that it is there"),
    ] = 0.5

    def collections(self) -> tuple[str, ...]:
        return self.against

    def among_themselves(self) -> bool:
        return False

    def reads_prompts(self) -> bool:
        return True

    def of_questions(self) -> Self | None:
        # What is only reported must be there to be reported of: its questions are asked.
        return self if self.action == "reject" else None

    def most_sharing(self) -> int:
        return _SHARING

    def sketch(self, *, texts: pl.DataFrame) -> Sketch:
        return self._sketch(texts, None)

    def sketch_near(self, *, texts: pl.DataFrame, known: KnownKeys) -> Sketch:
        found = self._sketch(texts, known.may_hold)
        held = np.flatnonzero(known.holds(found.keys))
        return Sketch(found.keys[held], found.rows[held])

    def sketch_others(self, *, texts: pl.DataFrame) -> Sketch:
        keys, rows = [], []
        for name, fewest in (("question", _FEWEST), ("answer", self.ngram)):
            found = words(texts[name], "plain")
            counts = np.diff(found.starts)
            for size in range(_FEWEST, self._run + 1):
                # Of an item of just `ngram` words, one of which is changed in the middle, only shorter runs are left.
                half = (counts // 2 == size) & (counts >= self.ngram)
                fits = (
                    counts >= max(fewest, size) if size == self._run else ((counts == size) | half) & (counts >= fewest)
                )
                numbers, owner = found.of(fits).whole_runs(size, _FEWEST)
                keys.append(numbers)
                rows.append(owner)
        return Sketch(np.concatenate(keys), np.concatenate(rows))

    def likeness(self, *, mine: pl.DataFrame, theirs: pl.DataFrame, shared: np.ndarray) -> pl.Series:
        import polars as pl

        own, others = (_Side.of(frame, self._run) for frame in (mine, theirs))
        found = np.zeros(mine.height)
        forms = frozenset(shared.tolist())
        # Numbers of runs first: words are compared in Python, which would take hours for all pairs that share a run.
        promising = np.flatnonzero(self._is_promising(own, others, shared)).tolist()
        texts = {number: _Text(*spelt) for number, spelt in own.spelt(promising)}
        items = {
            number: _Item(*spelt, others.runs_of(number), self._run, forms) for number, spelt in others.spelt(promising)
        }
        for pair in promising:
            asked, told = (items[number] for number in others.texts[:, pair].tolist())
            looked_for = [asked] + ([told] if len(told.words) >= self.ngram else [])
            rows = [texts[number] for number in own.texts[:, pair].tolist()]
            found[pair] = max(self._share(item, text) for item in looked_for for text in rows)
        return pl.select(pl.when(pl.lit(pl.Series(found)) > 0).then(pl.lit(pl.Series(found)))).to_series()

    def reason(self, *, other: str | None) -> str:
        return f"an item of {other} stands in it"

    def _sketch(self, texts: pl.DataFrame, may_hold: MayHold | None) -> Sketch:
        import polars as pl

        # Both at once: a call of polars costs as much as a hundred short texts.
        both = words(pl.concat([texts["question"], texts["answer"]]), "plain")
        keys, owners = zip(*both.growing(_FEWEST, self._run, may_hold), strict=True)
        return Sketch(np.concatenate(keys), np.concatenate(owners) % np.uint32(max(texts.height, 1)))

    @property
    def _run(self) -> int:
        return self.ngram // 2 + 1

    def _bar(self, item: _Item, there: Sequence[bool]) -> float:
        """Return the share of the item needed to report it: `fraction`, or halfway from there to 1 for a long item
        without `ngram` words in a row."""
        longest = max((len(list(found)) for is_there, found in groupby(there) if is_there), default=0) + item.run - 1
        is_sure = longest >= self.ngram or len(item.words) < 2 * self.ngram
        return self.fraction if is_sure else (1 + self.fraction) / 2

    def _is_promising(self, mine: _Side, theirs: _Side, shared: np.ndarray) -> np.ndarray:
        """Return bool [pairs]: whether an item may be told of, by numbers alone; most pairs share a run and no more."""
        is_own = ~np.isin(theirs.runs.numbers, shared)
        in_texts = Runs.of(theirs.runs, mine.runs, is_among(mine.runs.numbers, once(theirs.runs.numbers)))
        in_items = Runs.of(mine.runs, theirs.runs, is_own)
        found = np.zeros(mine.texts.shape[1], dtype=np.bool_)
        for item, fewest in zip(theirs.texts, (_FEWEST, self.ngram), strict=True):
            size = theirs.sizes[item]
            found |= (size >= fewest) & (size <= self.ngram)
            for text in mine.texts:
                left = np.flatnonzero(~found & (size > self.ngram))
                there, pair = in_texts.hold(item[left], text[left])
                covered = covered_words(there, pair, len(left), self._run)
                own = np.bincount(pair[there & is_own[places_of(theirs.runs, item[left])]], minlength=len(left))
                found[left] |= covered >= self.fraction * size[left]
                left = left[(covered < self.fraction * size[left]) & (own >= _RUNS)]
                there, pair = in_items.hold(text[left], item[left])
                covered = covered_words(there, pair, len(left), self._run)
                found[left] |= (covered >= self.ngram) & (covered >= self.fraction * mine.sizes[text[left]])
        return found

    def _share(self, item: _Item, text: _Text) -> float:
        """Compute the share of the item's words found in the text, or else of the text's words found in the item; 0
        below the bar."""
        if not text.words:
            return 0.0
        if _FEWEST <= len(item.words) < self.ngram or (len(item.words) >= self.ngram and not any(item.is_own)):
            return 1.0 if item.stands_whole_in(text) else 0.0
        if len(item.words) < self.ngram:
            return 0.0
        runs = text.runs_of(item.run)
        there = [run in runs for run in item.order]
        own = [is_there and is_own for is_there, is_own in zip(there, item.is_own, strict=True)]
        among_own = _covered(own, item.run) / item.own_words
        share = min(among_own, _covered(there, item.run) / len(item.words))
        bar = self._bar(item, there)
        if share >= bar:
            return share
        held = {run for run, is_there in zip(item.order, own, strict=True) if is_there}
        if len(held) < _RUNS:
            return 0.0
        mine = _covered([run in held for run in _runs(text.words, item.run)], item.run)
        told = mine >= max(self.ngram, bar * len(text.words))
        return mine / len(text.words) if told else 0.0


@dataclass(frozen=True)
class _Side:
    """The different texts of one side of some pairs.

    texts: int64 [2, pairs], the number of each pair's question and answer. raw, normal: String [texts]. sizes: int64
    [texts], their words. runs: of all texts.
    """

    texts: np.ndarray
    raw: pl.Series
    normal: pl.Series
    sizes: np.ndarray
    runs: Words

    @classmethod
    def of(cls, frame: pl.DataFrame, run: int) -> _Side:
        import polars as pl

        texts = pl.concat([frame["question"], frame["answer"]]).alias("text").to_frame()
        numbers = texts.select(pl.col("text").rank("dense").cast(pl.Int64) - 1)["text"].to_numpy()
        raw = texts["text"].unique().sort()
        plain = normal(raw, "plain")
        found = words(plain, "plain")
        return cls(numbers.reshape(2, -1), raw, plain, np.diff(found.starts), found.headed(run, _FEWEST))

    def spelt(self, pairs: Sequence[int]) -> Iterator[tuple[int, tuple[str, str]]]:
        """Yield the number of each text of the given pairs, once, with the text as it is and as `normal` gives it."""
        used = once(self.texts[:, pairs].ravel())
        # Taken at once: a Series gives out one text in the time of a hundred.
        yield from zip(used.tolist(), zip(self.raw.gather(used), self.normal.gather(used), strict=True), strict=True)

    def runs_of(self, number: int) -> list[int]:
        """List the numbers of a text's runs."""
        return [int(run) for run in self.runs.numbers[self.runs.starts[number] : self.runs.starts[number + 1]]]


class _Text:
    """A text of a conversation, its words and its runs."""

    def __init__(self, raw: str, plain: str) -> None:
        self.text = raw
        self.words = words_of(plain, "plain")
        self._runs: dict[int, frozenset[tuple[str, ...]]] = {}

    def runs_of(self, size: int) -> frozenset[tuple[str, ...]]:
        """Return the set of the text's runs of `size` words."""
        if size not in self._runs:
            self._runs[size] = frozenset(_runs(self.words, size))
        return self._runs[size]

    @cached_property
    def lines(self) -> list[tuple[list[str], str]]:
        """Return the words of the whole text and of each of its lines, with what they are made of."""
        import polars as pl

        texts = [self.text, *self.text.splitlines()]
        return list(zip((words_of(line, "plain") for line in normal(pl.Series(texts), "plain")), texts, strict=True))


class _Item:
    """An item of a benchmark.

    run: words of its runs, no more than half of all. is_own: which runs tell of it: those that many items do not share
    and that have letters in half of their words, for sums of numbers stand everywhere.
    """

    def __init__(self, raw: str, plain: str, numbers: Sequence[int], run: int, shared: frozenset[int]) -> None:
        self.words = words_of(plain, "plain")
        self.least = run
        self.run = min(run, max(len(self.words) // 2, 1))
        self.order = _runs(self.words, self.run)
        is_form = [self.run == run and number in shared for number in numbers]
        wordy = np.cumsum([0, *map(str.isalpha, self.words)])
        is_wordy = 2 * (wordy[self.run :] - wordy[: -self.run]) >= self.run
        self.is_own = [bool(wordy) and not form for wordy, form in zip_longest(is_wordy, is_form[: len(is_wordy)])]
        self._raw = raw

    @cached_property
    def marks(self) -> list[str] | None:
        """All words and symbols of an item that is mostly symbols, None of any other."""
        text = self._raw.casefold()
        marks = _MARK.findall(text)
        return marks if len(_SYMBOL.findall(text)) * _SYMBOLIC >= len(marks) else None

    @cached_property
    def own_words(self) -> int:
        """How many of its words stand in runs that tell of it."""
        return _covered(self.is_own, self.run)

    def stands_whole_in(self, text: _Text) -> bool:
        """Tell whether all the item's words occur in a row in a text; an item shorter than a run must be a whole line,
        or all of it."""
        if len(self.words) < self.least:
            return any(found == self.words and self._has_marks(line) for found, line in text.lines)
        return _stands_in(self.words, text.words) and self._has_marks(text.text)

    def _has_marks(self, text: str) -> bool:
        return self.marks is None or _stands_in(self.marks, _MARK.findall(text.casefold()))


def _runs(found: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(found[at : at + size]) for at in range(len(found) - size + 1)]


def _covered(runs: Sequence[bool], size: int) -> int:
    """Count the words covered by the runs marked true."""
    covered = end = 0
    for at in compress(range(len(runs)), runs):
        covered += size if at >= end else at + size - end
        end = at + size
    return covered


def _stands_in(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Tell whether all words of `part` occur in a row in `whole`."""
    # With a space at either end, so that no word is found inside of another.
    joined = f" {' '.join(whole)} "
    return f" {' '.join(part)} " in joined
