"""FORMAT's invariants as checks on columns, for one row or a whole shard.

Each check yields what it found by row and example. Of one check's findings in one shard the first few are named and the
rest counted: a shard that is wrong throughout gives sentences that a person can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.ids_digest import ids_digests
from orca_recipes.shards.layout import STARTS, is_trained, starts_example

if TYPE_CHECKING:
    from orca_recipes.shards.segments import Segments

Terminators = Sequence[tuple[int, ...]]

# One fault often breaks every row: a few are named, and the rest are counted.
_NAMED = 3
# Masks over a whole shard's tokens would take as much memory as the shard.
_TOKENS_A_PASS = 1 << 22


@dataclass(frozen=True)
class Breach:
    """One broken rule: the row, the example (counted over the shard) where one can be named, and the sentence."""

    row: int
    example: int | None
    sentence: str


def segment_breaches(segments: Segments) -> Iterator[Breach]:
    """Yield breaches: segments are maximal; every example has a label that is trained, and ends where its last
    trained turn ends."""
    kinds = segments.modes & ~np.int8(STARTS)
    split = np.flatnonzero((kinds[1:] == kinds[:-1]) & ~starts_example(segments.modes[1:])) + 1
    yield from _of_segments(segments, split, lambda at: f"segment {at} has role and mask of the one before it")
    untrained = np.flatnonzero(segments.example_trained_tokens == 0)
    yield from of_examples(segments, untrained, lambda _: "no token after its first is trained")
    trailing = np.flatnonzero(~is_trained(segments.modes[segments.example_starts[1:] - 1]))
    yield from of_examples(segments, trailing, lambda _: "it goes on after its last trained turn")


def room_breaches(segments: Segments, *, row_tokens: int, align: int) -> Iterator[Breach]:
    """Check that the examples of a row, each rounded up to `align`, fit in `row_tokens`."""
    taken = np.add.reduceat(segments.rooms(align), segments.row_examples[:-1])
    full = np.flatnonzero(taken > row_tokens)
    for row, words in first_few(full, lambda at: f"its examples take {taken[at]} of {row_tokens} tokens"):
        yield Breach(row, None, words)


def vocabulary_breaches(segments: Segments, tokens: np.ndarray, *, vocabulary_size: int) -> Iterator[Breach]:
    """Check that every token is below the vocabulary's size; tokens: uint16 or int32 [tokens], in row order."""
    if not len(tokens) or (tokens.max() < vocabulary_size and tokens.min() >= 0):
        return
    outside = _places(tokens, lambda part: (part >= vocabulary_size) | (part < 0))
    yield from _of_tokens(
        segments, outside, lambda at: f"token {tokens[at]} is outside the vocabulary of {vocabulary_size}"
    )


def terminator_breaches(
    segments: Segments, tokens: np.ndarray, *, terminators: Terminators, cut: np.ndarray
) -> Iterator[Breach]:
    """Check that each complete trained turn ends with a terminator, and the last turn of a cut example does not.

    Args:
        tokens: uint16 or int32 [tokens], in row order.
        terminators: each the tokens, in order, that may end a complete trained turn.
        cut: bool [examples], as the records flag them.
    """
    turns = np.flatnonzero(is_trained(segments.modes))
    examples = np.searchsorted(segments.example_starts, turns, side="right") - 1
    last = turns == segments.example_starts[examples + 1] - 1
    ended = _end_with_any(segments, tokens, turns, terminators)
    open_turns = turns[~ended & ~(last & cut[examples])]
    yield from _of_segments(segments, open_turns, lambda at: f"the trained turn in segment {at} lacks its terminator")
    closed = examples[ended & last & cut[examples]]
    yield from of_examples(segments, closed, lambda _: "it is flagged as cut, but ends with the terminator")


def bos_breaches(segments: Segments, tokens: np.ndarray, *, bos_id: int, terminators: Terminators) -> Iterator[Breach]:
    """Check that every example begins with exactly one BOS, and no answer trains it (unless a terminator has it).

    A template may print BOS before later turns, so it may stand again among tokens that are not trained.
    """
    starts = segments.example_bounds[:-1]
    missing = np.flatnonzero(tokens[starts] != bos_id)
    yield from of_examples(
        segments, missing, lambda at: f"it begins with token {tokens[starts[at]]}, not with BOS {bos_id}"
    )
    second = tokens[np.minimum(starts + 1, segments.example_bounds[1:] - 1)]
    doubled = np.flatnonzero((segments.example_tokens > 1) & (tokens[starts] == bos_id) & (second == bos_id))
    yield from of_examples(segments, doubled, lambda _: f"it begins with BOS {bos_id} twice")
    if all(bos_id not in ids for ids in terminators):
        places = np.setdiff1d(_places(tokens, lambda part: part == bos_id), starts, assume_unique=True)
        taught = places[is_trained(segments.modes[_segments_at(segments, places)])]
        yield from _of_tokens(segments, taught, lambda _: f"BOS {bos_id} is trained")


def ids_breaches(segments: Segments, tokens: np.ndarray, *, digests: np.ndarray, column: str) -> Iterator[Breach]:
    """Check that the tokens of every example, context included, match the digest in its record.

    Args:
        tokens: uint16 or int32 [tokens], in row order. digests: uint64 [examples, 2], as the records tell them.
        column: of the records, where they stand.
    """
    found = ids_digests(tokens, segments.example_bounds, column=column)
    others = np.flatnonzero((found != digests).any(axis=1))
    yield from of_examples(segments, others, lambda _: "its tokens are others than its record says, by their digest")


def absence_breaches(segments: Segments, tokens: np.ndarray, *, token_id: int) -> Iterator[Breach]:
    """Check that BOS begins no example and no answer trains it, where inference's prompt does not begin with it.

    A template may print it later, behind white space of its own.
    """
    starts = segments.example_bounds[:-1]
    places = _places(tokens, lambda part: part == token_id)
    places = places[np.isin(places, starts) | is_trained(segments.modes[_segments_at(segments, places)])]
    yield from _of_tokens(segments, places, lambda _: f"BOS {token_id} stands where no prompt of inference has it")


def of_examples(segments: Segments, examples: np.ndarray, sentence: Callable[[int], str]) -> Iterator[Breach]:
    """Yield breaches at these examples, the first few by name."""
    for example, words in first_few(examples, sentence):
        yield Breach(int(segments.example_rows[example]), example, words)


def first_few(found: np.ndarray, sentence: Callable[[int], str]) -> Iterator[tuple[int, str]]:
    """Yield the first few findings, each with its sentence; the last one counts the rest."""
    for number, at in enumerate(found[:_NAMED].tolist(), start=1):
        more = len(found) - _NAMED
        yield at, sentence(at) + (f" (and {more:,} more like it)" if number == _NAMED and more > 0 else "")


def _of_segments(segments: Segments, at: np.ndarray, sentence: Callable[[int], str]) -> Iterator[Breach]:
    for segment, words in first_few(at, sentence):
        example = int(np.searchsorted(segments.example_starts, segment, side="right")) - 1
        yield Breach(int(segments.example_rows[example]), example, words)


def _of_tokens(segments: Segments, places: np.ndarray, sentence: Callable[[int], str]) -> Iterator[Breach]:
    for place, words in first_few(places, sentence):
        example = int(np.searchsorted(segments.example_bounds, place, side="right")) - 1
        inside = place - int(segments.example_bounds[example])
        yield Breach(int(segments.example_rows[example]), example, f"at its token {inside}: {words}")


def _places(tokens: np.ndarray, wanted: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return int64 [found]: places of the tokens that are wanted, looked for in passes of bounded size."""
    passes = range(0, len(tokens), _TOKENS_A_PASS)
    found = [begin + np.flatnonzero(wanted(tokens[begin : begin + _TOKENS_A_PASS])) for begin in passes]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _segments_at(segments: Segments, places: np.ndarray) -> np.ndarray:
    return np.asarray(np.searchsorted(segments.token_starts, places, side="right") - 1)


def _end_with_any(segments: Segments, tokens: np.ndarray, turns: np.ndarray, terminators: Terminators) -> np.ndarray:
    """Return bool [turns]: whether the segment's last tokens are those of a terminator."""
    found = np.zeros(len(turns), dtype=np.bool_)
    for ids in terminators:
        found |= _end_with(segments, tokens, turns, ids)
    return found


def _end_with(segments: Segments, tokens: np.ndarray, turns: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """Return bool [turns]: whether the segment's last tokens are these ids."""
    ends = segments.token_starts[turns + 1]
    matches = segments.lengths[turns] >= len(ids)
    for back, token in enumerate(reversed(ids), start=1):
        matches &= tokens[np.maximum(ends - back, 0)] == token
    return np.asarray(matches)
