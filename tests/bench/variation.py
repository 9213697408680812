"""Repeating a corpus without repeating its rows: other numbers, other names, everything else as people wrote it.

A conversation is taken apart once; each round joins it again, so that gigabytes are made at the speed of writing them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.bench.conversations import Conversation

NAMES = 400
"""How many of the corpus' capitalised words stand in for each other."""

_PIECES = re.compile(r"(\d+|\b[A-Z][a-z]{2,}\b)")
_MID_SENTENCE = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")


@dataclass(frozen=True)
class Round:
    """What one repetition puts in place of digits and names."""

    digits: dict[int, str]
    names: dict[str, str]

    def varied(self, piece: str) -> str:
        return piece.translate(self.digits) if piece[0] in "0123456789" else self.names.get(piece, piece)


class Variation:
    """A corpus taken apart, ready to be repeated."""

    def __init__(self, corpus: Sequence[Conversation]) -> None:
        self.corpus = corpus
        self.names = _names(corpus)
        known = frozenset(self.names)
        self._split = [[(role, _cut(content, known)) for role, content in conversation] for conversation in corpus]

    def conversation(self, at: int, round: Round | None) -> Conversation:
        """The conversation at a place, as it is without a round."""
        if round is None:
            return self.corpus[at]
        return [(role, _joined(pieces, round)) for role, pieces in self._split[at]]

    def round(self, number: int) -> Round:
        """The same for the same number; round 0 is not for asking, it is the corpus as it stands."""
        draw = Random(number)
        # Zero stays zero, so that a number keeps its length and never begins with a zero that it did not begin with.
        digits = "0" + "".join(draw.sample("123456789", 9))
        others = draw.sample(self.names, len(self.names))
        table = {ord(old): new for old, new in zip("0123456789", digits, strict=True)}
        return Round(table, dict(zip(self.names, others, strict=True)))

    def fixed(self) -> int:
        """How many conversations hold neither number nor name, so that every round repeats them as they are."""
        return sum(all(len(pieces) == 1 for _, pieces in conversation) for conversation in self._split)


def _names(corpus: Sequence[Conversation]) -> list[str]:
    """The words most often capitalised in the middle of a sentence."""
    counts: Counter[str] = Counter()
    for conversation in corpus:
        for _, content in conversation:
            counts.update(_MID_SENTENCE.findall(content))
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NAMES]]


def _cut(content: str, names: frozenset[str]) -> tuple[str, ...]:
    """Text, number or name, text, and so on; what is neither is joined to the text around it."""
    found = _PIECES.split(content)
    pieces = [found[0]]
    for at in range(1, len(found), 2):
        if found[at] in names or (found[at][0].isascii() and found[at][0].isdigit()):
            pieces += [found[at], found[at + 1]]
        else:
            pieces[-1] += found[at] + found[at + 1]
    return tuple(pieces)


def _joined(pieces: tuple[str, ...], round: Round) -> str:
    changed = list(pieces)
    for at in range(1, len(changed), 2):
        changed[at] = round.varied(changed[at])
    return "".join(changed)
