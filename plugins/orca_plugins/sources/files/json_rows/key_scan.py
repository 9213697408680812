"""Keys in the lines of a block and their places, for a reader that skips unknown columns in silence.

Found by bytes alone, in all lines at once: in JSON an unescaped quote opens or closes a text, a text before a colon is
a key, and brackets outside of texts give its depth. A line where that is unsure, or where a key may be lost, goes to
the reader that takes one line at a time; so nothing here decides about a row.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orca_plugins.sources.files.columns import Wanted, routes
from orca_plugins.sources.files.json_rows.jsonl_trusted_lines import Lines
from orca_plugins.sources.files.json_rows.strict_json import NESTING
from orca_plugins.sources.files.turns.message_keys import PARTS, flags_of, holders, silent_keys, texts_of, watched

_QUOTE, _BACKSLASH, _COLON = ord('"'), ord("\\"), ord(":")
_LONGEST_RUN = 1000
"""Backslashes in a row that are counted; a line with more is looked at by itself."""
# A line with more of it is left to the reader that takes one line at a time.
_MOST_SPACE = 8
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")
# A piece is looked at several times: larger ones would come from memory each time.
_IN_CACHE = 1 << 17
_TO_BRACES = np.uint8(0x20)
"""The bit that makes braces of square brackets."""
_IS_SPACE = np.isin(np.arange(256), list(b" \t\r"))


@dataclass(frozen=True)
class Seen:
    """Keys found in a block of lines.

    lines: `plain` only where no key is lost and no flag is odd. parts: the keys of messages that are among
    `message_keys.PARTS` or carried as texts. flags: their flags, True where the values are booleans, else numbers.
    """

    lines: Lines
    parts: tuple[str, ...]
    flags: dict[str, bool]


@dataclass(frozen=True)
class _Keys:
    """The keys of a span of bytes: int64 [keys] each; `after` is the quote that closes a key."""

    codes: np.ndarray
    start: np.ndarray
    length: np.ndarray
    after: np.ndarray
    depth: np.ndarray

    def only(self, which: np.ndarray) -> "_Keys":
        return _Keys(self.codes, self.start[which], self.length[which], self.after[which], self.depth[which])

    def named(self, name: str) -> np.ndarray:
        """Mark the keys spelt like this: bool [keys]. A key written with escapes counts as another."""
        spelt = np.frombuffer(name.encode(), np.uint8)
        found = self.length == len(spelt)
        at = self.start[found]
        found[found] = (self.codes[at[:, None] + np.arange(len(spelt))] == spelt).all(axis=1)
        return np.asarray(found)

    def spelt(self, name: str) -> np.ndarray:
        """Tell which keys are spelt so, or with the escapes of writers that keep to ASCII: bool [keys]."""
        escaped = json.dumps(name)[1:-1]
        names = {name, escaped, _ESCAPE.sub(lambda found: f"\\u{found[1].upper()}", escaped)}
        return np.asarray(np.logical_or.reduce([self.named(one) for one in names]))

    def are_escaped(self) -> np.ndarray:
        """Tell which keys are spelt with escapes: bool [keys]."""
        ends = np.cumsum(self.length)
        begins = ends - self.length
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.start - begins, self.length)
        counts = np.append(0, np.cumsum(self.codes[places] == _BACKSLASH))
        return np.asarray(counts[ends] > counts[begins])

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first two bytes of each key's value: uint8 [keys] each."""
        colon = _past_space(self.codes, self.after + 1)
        value = _past_space(self.codes, colon + 1)
        return self.codes[value], self.codes[np.minimum(value + 1, len(self.codes) - 1)]


def seen_in(lines: Lines, wanted: Wanted) -> Seen:
    """Look at the keys of all lines."""
    base = int(lines.starts[0])
    starts, ends = lines.starts - base, lines.ends - base
    codes = np.frombuffer(lines.span(), np.uint8)
    keys, unsure, closings = _keys_of(codes, starts, ends, ~lines.plain)
    inside, talking, veiled = _of_messages(keys, closings, starts, wanted)
    parts, flags, lost = _in_messages(keys.only(inside), wanted)
    lost = np.concatenate([lost, veiled, _beside(keys, talking, starts, wanted)])
    plain = lines.plain & ~unsure
    plain[_lines_of(lost, starts)] = False
    return Seen(replace(lines, plain=plain), parts, flags)


def _keys_of(
    codes: np.ndarray, starts: np.ndarray, ends: np.ndarray, unsure: np.ndarray
) -> tuple[_Keys, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Find the keys of each line, the lines left undecided, and the depth at each closing bracket.

    Args:
        unsure: bool [lines], those that are not looked at.
    """
    unsure = unsure.copy()
    while True:
        if unsure.any():
            codes = codes.copy()
            for start, end in zip(starts[unsure].tolist(), ends[unsure].tolist(), strict=True):
                codes[start:end] = ord(" ")
        quotes, long = _quotes(codes)
        counts = np.diff(np.searchsorted(quotes, np.append(starts, len(codes))))
        odd = counts % 2 == 1
        odd[_lines_of(long, starts)] = True
        if not odd.any():
            brackets, depth = _brackets(codes, quotes)
            odd = np.append(0, depth)[np.searchsorted(brackets, ends)] != 0
            odd[_lines_of(brackets[depth > NESTING], starts)] = True
        if not odd.any():
            break
        unsure |= odd
    closing = quotes[1::2]
    following = codes[closing + 1]
    is_key = following == _COLON
    spaced = np.flatnonzero(_IS_SPACE[following])
    reached = codes[_past_space(codes, closing[spaced] + 1)]
    is_key[spaced] = reached == _COLON
    unsure[_lines_of(closing[spaced[_IS_SPACE[reached]]], starts)] = True
    after, start = closing[is_key], quotes[::2][is_key] + 1
    keys = _Keys(codes, start, after - start, after, depth[np.searchsorted(brackets, start) - 1])
    return keys, unsure, (brackets, depth)


def _quotes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the quotes that no backslash escapes, and those behind too many backslashes to decide (_LONGEST_RUN)."""
    quotes = np.concatenate([np.flatnonzero(piece == _QUOTE) + start for start, piece in _pieces(codes)])
    behind = np.flatnonzero(codes[quotes - 1] == _BACKSLASH)
    escaped = np.zeros(len(quotes), bool)
    escaped[behind] = True
    at, alive = quotes[behind] - 2, np.arange(len(behind))
    for _ in range(_LONGEST_RUN):
        alive = alive[codes[at[alive]] == _BACKSLASH]
        if not len(alive):
            break
        escaped[behind[alive]] ^= True
        at[alive] -= 1
    return quotes[~escaped], quotes[behind[alive]]


def _brackets(codes: np.ndarray, quotes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return brackets outside of texts, and how deep what follows each stands."""
    found = []
    for start, piece in _pieces(codes):
        low = piece | _TO_BRACES
        low -= ord("{")
        low &= ~np.uint8(ord("}") - ord("{"))  # of both braces nothing is left
        found.append(np.flatnonzero(low == 0) + start)
    places = np.concatenate(found)
    places = places[np.searchsorted(quotes, places) % 2 == 0]
    return places, np.cumsum(np.where(codes[places] | _TO_BRACES == ord("{"), 1, -1))


def _pieces(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each piece's start and bytes: few enough to stay in the cache while they are looked at."""
    for start in range(0, len(codes), _IN_CACHE):
        yield start, codes[start : start + _IN_CACHE]


def _of_messages(
    keys: _Keys, closings: tuple[np.ndarray, np.ndarray], starts: np.ndarray, wanted: Wanted
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the keys of messages (positions), the lines that have messages (bool [lines]), and the places of other keys
    that may spell the name of messages with escapes."""
    brackets, depth = closings
    levels = 0
    talking, inside = np.zeros(len(starts), bool), [np.empty(0, np.int64)]
    for route in routes(wanted.paths["messages"]) if "messages" in wanted.paths else []:
        level = len(route)
        levels = max(levels, level)
        lists = keys.start[(keys.depth == level) & keys.spelt(route[-1])]
        if not len(lists):
            continue
        talking[_lines_of(lists, starts)] = True
        closes = np.append(brackets[depth == level], len(keys.codes))
        ends = closes[np.searchsorted(closes, lists)]
        deep = np.flatnonzero(keys.depth == level + 2)
        within = np.searchsorted(lists, keys.start[deep]) - 1
        inside.append(deep[(within >= 0) & (keys.start[deep] < ends[within])])
    outer = keys.only(np.flatnonzero(keys.depth <= levels)) if levels and not talking.all() else keys.only(inside[0])
    outer = outer.only(~talking[_lines_of(outer.start, starts)])
    veiled = outer.start[outer.are_escaped()]
    return np.unique(np.concatenate(inside)) if len(inside) > 2 else inside[-1], talking, veiled


def _in_messages(keys: _Keys, wanted: Wanted) -> tuple[tuple[str, ...], dict[str, bool], np.ndarray]:
    """List the parts and flags among the keys of messages, and the places of odd flags and of keys that may be lost."""
    parts, flags, lost = [], {}, [np.empty(0, np.int64)]
    texts = (*PARTS, *texts_of(wanted))
    for name in (*texts, *flags_of(wanted), *sorted(silent_keys(wanted))):
        if not len(keys.start):
            break
        named = keys.named(name)
        if not named.any():
            continue
        mine, keys = keys.only(named), keys.only(~named)
        if name in texts:
            parts.append(name)
        elif name not in silent_keys(wanted):
            flags[name], odd = _flag(mine)
            lost.append(odd)
    return tuple(parts), flags, np.concatenate([*lost, _holding(keys)])


def _flag(keys: _Keys) -> tuple[bool, np.ndarray]:
    """Tell whether a flag's values are booleans, else numbers, and find the values that are neither that nor null."""
    first, _ = keys.values()
    boolean, number = np.isin(first, list(b"tf")), np.isin(first, list(b"-0123456789"))
    are_booleans = bool(boolean.any())
    fine = (boolean if are_booleans else number) | (first == ord("n"))
    return are_booleans, keys.start[~fine]


def _holding(keys: _Keys) -> np.ndarray:
    """Return the places of keys with a value other than null, an empty text, list or object."""
    first, second = keys.values()
    pairs = [(first == ord(opening)) & (second == ord(closing)) for opening, closing in ('""', "[]", "{}")]
    return np.asarray(keys.start[~np.logical_or.reduce([first == ord("n"), *pairs])])


def _beside(keys: _Keys, talking: np.ndarray, starts: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Return the places where a row may hold something in a column it must leave empty."""
    lost = [np.empty(0, np.int64)]
    always, names = watched(wanted, with_messages=False), watched(wanted, with_messages=True)
    # A look at the first letter spares nearly all keys the comparison of whole names.
    begins = np.isin(np.arange(256), [ord(name[0]) for name in names])
    for level in sorted({len(holder) + 1 for holder in holders(wanted)}):
        here = keys.only(np.flatnonzero((keys.depth == level) & begins[keys.codes[keys.start]]))
        for name in names:
            named = here.named(name)
            if named.any():
                held = _holding(here.only(named))
                lost.append(held if name in always else held[talking[_lines_of(held, starts)]])
    return np.concatenate(lost)


def _past_space(codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Move places past white space, at most _MOST_SPACE bytes of it."""
    places = np.minimum(places, len(codes) - 1)
    for _ in range(_MOST_SPACE):
        space = _IS_SPACE[codes[places]]
        if not space.any():
            break
        places = np.minimum(places + space, len(codes) - 1)
    return places


def _lines_of(places: Sequence[int] | np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the number of the line in which each byte lies."""
    return np.searchsorted(starts, places, side="right") - 1
