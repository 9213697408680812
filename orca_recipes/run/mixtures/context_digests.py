"""Digests of what stands before answers, taken of the texts where they lie in memory.

The contents of a context's turns follow each other in their column, so that they are digested in one go, by XXH3-128;
roles and lengths are mixed in for whole columns at once. To join texts and digest them by BLAKE2b took eight times as
long. These digests are compared among themselves alone, and leave the store in no build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from orca_recipes.contract.draws import splitmix64
from orca_recipes.run.examples.row_digests import Digests
from orca_recipes.shards.text_columns import is_null, numbers
from orca_recipes.store.arrow_files import different, one_piece, string_buffers

if TYPE_CHECKING:
    import pyarrow as pa

_USER, _SYSTEM, _ANSWER = (xxhash.xxh3_64_intdigest(role) for role in (b"user", b"system", b"assistant"))


def context_digests(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Digest what a template prints before the answer that closes each row: uint64 [rows], high and low.

    That is its system message, where it is not empty, and its turns; a question is the same as one turn of a user. The
    system message of a conversation stands before the row's own.

    Args:
        rows: columns system, question and messages; the last may lack fields beside role and content.
    """
    system, questions, messages = (one_piece(rows[name]) for name in ("system", "question", "messages"))
    hi, lo = (np.zeros(len(messages), dtype=np.uint64) for _ in range(2))
    is_told = is_null(messages)
    told, talks = np.flatnonzero(is_told), np.flatnonzero(~is_told)
    heads = _heads_of_rows(system)
    if len(told):
        bounds, data = string_buffers(questions)
        one = np.full(len(told), _USER, dtype=np.uint64), np.diff(bounds)[told]
        each = np.arange(len(told) + 1)
        found = _digests(data, bounds[told], bounds[told + 1], _shapes(*one, each[:-1], each[1:]))
        _put((hi, lo), told, _under(found, (heads[0][told], heads[1][told])))
    if len(talks):
        _put((hi, lo), talks, _of_talks(messages, talks, (heads[0][talks], heads[1][talks])))
    return hi, lo


def _of_talks(messages: pa.LargeListArray, talks: np.ndarray, heads: Digests) -> Digests:
    """Digest conversations. talks: int64, those that are there; heads: of the system messages of their rows."""
    contents, roles = messages.values.field("content"), _codes(messages.values.field("role"))
    bounds, data = string_buffers(contents)
    sizes = np.diff(bounds)
    starts, stops = (numbers(messages.offsets)[talks + at].astype(np.int64) for at in (0, 1))
    stops = stops - _is_at(roles, starts, stops, stops - 1, _ANSWER)
    first = _is_at(roles, starts, stops, starts, _SYSTEM)
    blank = first.copy()
    blank[first] = sizes[starts[first]] == 0
    starts = starts + blank
    brings = _is_at(roles, starts, stops, starts, _SYSTEM)
    at, mine = starts[brings], (heads[0].copy(), heads[1].copy())
    _put(mine, np.flatnonzero(brings), _heads(data, bounds[at], bounds[at + 1]))
    starts = starts + brings
    found = _digests(data, bounds[starts], bounds[stops], _shapes(roles, sizes, starts, stops))
    return _under(found, mine)


def _is_at(roles: np.ndarray, starts: np.ndarray, stops: np.ndarray, places: np.ndarray, role: int) -> np.ndarray:
    """Tell of each conversation whether the message at a place of it has a role: bool [conversations]."""
    found = starts < stops
    found[found] = roles[places[found]] == np.uint64(role)
    return found


def _codes(roles: pa.LargeStringArray) -> np.ndarray:
    """Return a number of each role, uint64 [messages], the same in every file."""
    import pyarrow.compute as pc

    names = roles.fill_null("") if roles.null_count else roles
    known = [xxhash.xxh3_64_intdigest(name.encode()) for name in pc.unique(names).to_pylist()]
    return np.asarray(np.array(known, dtype=np.uint64)[different(names)])


def _shapes(roles: np.ndarray, sizes: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Digest the roles and lengths of the messages of each context, in their order: uint64 [contexts].

    Args:
        roles, sizes: of all messages. starts, stops: int64 [contexts], the messages of each.
    """
    counts = stops - starts
    owners = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    messages = starts[owners] + places
    words = splitmix64(splitmix64(roles[messages] ^ sizes[messages].astype(np.uint64)) + places.astype(np.uint64))
    # Sums of words that are mixed by their place, so that no two orders give one number.
    sums = np.append(np.uint64(0), np.cumsum(words, dtype=np.uint64))
    ends = np.cumsum(counts)
    return np.asarray(sums[ends] - sums[ends - counts])


def _heads_of_rows(system: pa.LargeStringArray) -> Digests:
    """Digest the system messages of rows; 0 where one is empty or null."""
    hi, lo = (np.zeros(len(system), dtype=np.uint64) for _ in range(2))
    if system.null_count < len(system):
        bounds, data = string_buffers(system)
        there = np.flatnonzero((np.diff(bounds) > 0) & ~is_null(system))
        _put((hi, lo), there, _heads(data, bounds[there], bounds[there + 1]))
    return hi, lo


def _heads(data: pa.Buffer, starts: np.ndarray, stops: np.ndarray) -> Digests:
    """Digest system messages, apart from the turns that say the same."""
    return _digests(data, starts, stops, np.full(len(starts), _SYSTEM, dtype=np.uint64))


def _digests(data: pa.Buffer, starts: np.ndarray, stops: np.ndarray, beside: np.ndarray) -> Digests:
    """Digest spans of some bytes, each with a number that counts beside it."""
    # No line of Python is run for a span, which would cost as much as its hash.
    spans = map(memoryview(data if data is not None else b"").__getitem__, map(slice, starts.tolist(), stops.tolist()))
    halves = np.frombuffer(b"".join(map(xxhash.xxh3_128_digest, spans)), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return splitmix64(halves[:, 0] ^ beside), splitmix64(halves[:, 1] ^ splitmix64(beside))


def _under(found: Digests, heads: Digests) -> Digests:
    """Let the digest of a system message count, where there is one."""
    pairs = zip(found, heads, strict=True)
    hi, lo = (np.where(head > 0, splitmix64(splitmix64(half) ^ head), half) for half, head in pairs)
    return hi, lo


def _put(digests: Digests, rows: np.ndarray, found: Digests) -> None:
    for half, mine in zip(digests, found, strict=True):
        half[rows] = mine
