"""A markup cut at control tokens: what stands around each message, as small tables that columns are gathered from.

Text is cut only at control tokens and where a trained answer begins. For each pair of neighbours (role before, role
after, trained or not) the pieces between them are worked out once; rendering a part is then one gather.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import START, Joint, Markup
from orca_recipes.shards.layout import ROLES

TEXT, CONTENT, CONTROL, CUT = range(4)
"""What a piece is: fixed text, the message's content, a control token, or the place where a trained answer begins."""

START_CODE = 0
SYSTEM, ASSISTANT = ROLES.index("system"), ROLES.index("assistant")
END_CODE = len(ROLES)
MISSING = -1
Value = TypeVar("Value")


@dataclass(frozen=True)
class Piece:
    """One piece; payload is the index of a text or of a control token."""

    what: int
    payload: int
    role: int
    trained: bool


@dataclass
class PieceTables:
    """The pieces of every joint, flat.

    A joint's code is given by `code(before, before_trained, after, after_trained)`, where roles are codes of
    `frames.ROLES`, START_CODE stands before the first message and END_CODE after the last.

    Args:
        earlier: what stands around an answer that is not trained, where that is other text: joints that lead to it and
            from it, of prompts that inference is given in a later turn.
    Attributes:
        starts: int64 [codes + 1] into the flat arrays; a joint that the template does not have is in `missing`.
        counts: int64 [codes], pieces of each.
        texts, controls: what payloads point into, the texts and the ids of control tokens.
    """

    markup: Markup
    vocabulary: Vocabulary
    earlier: Markup | None = None
    texts: list[str] = field(default_factory=list)
    controls: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        pieces = [self._pieces(code) for code in range(self.code_count)]
        self.missing = np.array([found is None for found in pieces])
        lists = [found or [] for found in pieces]
        self.counts = np.array([len(found) for found in lists], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        flat = [piece for found in lists for piece in found]
        self.what = np.array([piece.what for piece in flat], dtype=np.int8)
        self.payload = np.array([piece.payload for piece in flat], dtype=np.int32)
        self.role = np.array([piece.role for piece in flat], dtype=np.int8)
        self.trained = np.array([piece.trained for piece in flat], dtype=bool)

    code_count = (END_CODE + 1) * (END_CODE + 1) * 4

    @staticmethod
    def code(
        before: np.ndarray, before_trained: np.ndarray, after: np.ndarray, after_trained: np.ndarray
    ) -> np.ndarray:
        roles = before.astype(np.int64) * (END_CODE + 1) + after
        return np.asarray(roles * 4 + before_trained.astype(np.int64) * 2 + after_trained)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        # A regular expression takes the first alternative that fits, not the longest.
        longest_first = sorted(self.vocabulary.control, key=lambda text: (-len(text), text))
        # An empty pattern would match everywhere; (?!) matches nothing.
        return re.compile("|".join(re.escape(text) for text in longest_first) or r"(?!)")

    def _pieces(self, code: int) -> list[Piece] | None:
        roles, flags = divmod(code, 4)
        before, after = divmod(roles, END_CODE + 1)
        before_trained, after_trained = bool(flags & 2), bool(flags & 1)
        if after == END_CODE:
            return list(self._cut(self.markup.terminator, before, True)) if before == ASSISTANT else None
        before_markup, after_markup = self._of(before, before_trained), self._of(after, after_trained)
        joint = self._joint(before, after, before_markup if before == ASSISTANT else after_markup)
        if joint is None:
            return None
        pieces: list[Piece] = []
        # An answer's end is the assistant's own, and is trained as its answer is; the footer behind it is the
        # template's.
        if before == ASSISTANT:
            pieces += self._cut(before_markup.terminator, before, before_trained)
        # What the template says before it opens the first message is the system's.
        pieces += self._cut(joint.footer, before or SYSTEM, False)
        pieces += self._cut(joint.header, after, False)
        if after == ASSISTANT:
            # Inference encodes a prompt and the model's answer apart: text that was encoded across this place would be
            # other tokens.
            if after_trained:
                pieces.append(Piece(CUT, 0, after, True))
            pieces += self._cut(after_markup.answer_prefix, after, after_trained)
        return [*pieces, Piece(CONTENT, 0, after, after_trained)]

    def _of(self, role: int, trained: bool) -> Markup:
        """Return what stands around a message."""
        return self.earlier if self.earlier is not None and role == ASSISTANT and not trained else self.markup

    @staticmethod
    def _joint(before: int, after: int, markup: Markup) -> Joint | None:
        if before == END_CODE or after == START_CODE:
            return None
        name = START if before == START_CODE else ROLES[before]
        return markup.joints.get((name, ROLES[after]))

    def _cut(self, text: str, role: int, trained: bool) -> Iterator[Piece]:
        end = 0
        for match in self._control.finditer(text):
            if match.start() > end:
                yield Piece(TEXT, _place(self.texts, text[end : match.start()]), role, trained)
            yield Piece(CONTROL, _place(self.controls, self.vocabulary.control[match.group()]), role, trained)
            end = match.end()
        if end < len(text):
            yield Piece(TEXT, _place(self.texts, text[end:]), role, trained)


def _place(values: list[Value], value: Value) -> int:
    """Return the index of a value in a list; append the value if it is new."""
    if value not in values:
        values.append(value)
    return values.index(value)
