"""All messages of a part as flat columns: what rendering works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.markup import START, Markup
from orca_recipes.run.segments.template_pieces import ASSISTANT, START_CODE, PieceTables
from orca_recipes.shards.layout import ROLES
from orca_recipes.store.arrow_files import different, indices

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN = 0
"""Code of a role that no template has: what `ROLES` calls mixed is never the role of one message."""

# U+3000 is the last white space that Python knows.
PYTHON_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""What `str.strip()` takes away, which is what a template's `trim` does."""


def flatten(messages: pa.LargeListArray) -> FlatMessages:
    """Flatten conversations (`frames.MESSAGES`) into columns; only assistants are ever trained."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = np.asarray(pc.list_value_length(messages).fill_null(0))
    flat = messages.flatten()
    role, content, trained = (flat.field(name) for name in ("role", "content", "trained"))
    known = np.asarray(pc.index_in(role, value_set=pa.array(ROLES, type=role.type)).fill_null(UNKNOWN)).astype(np.int64)
    return FlatMessages(
        role=known,
        # A mark on any other role's message would train the model to speak for the user or the tool.
        trained=np.asarray(trained.fill_null(False)) & (known == ASSISTANT),
        example=np.repeat(np.arange(len(messages), dtype=np.int64), counts),
        contents=content.cast(pa.large_string()).fill_null(""),
        # Contents are most of a part's memory: whoever keeps fewer messages keeps positions, and copies no text.
        place=np.arange(len(known)),
        examples=len(messages),
    )


@dataclass(frozen=True)
class FlatMessages:
    """All messages of a part, one after the other.

    contents: large_string, those of messages that are not kept included: they are large, and stay where they are.
    place: int64 [messages], into contents.
    """

    role: np.ndarray
    trained: np.ndarray
    example: np.ndarray
    contents: pa.LargeStringArray
    place: np.ndarray
    examples: int

    def keep(self, mask: np.ndarray) -> FlatMessages:
        if mask.all():
            return self
        role, trained, example, place = (column[mask] for column in (self.role, self.trained, self.example, self.place))
        return FlatMessages(role, trained, example, self.contents, place, self.examples)

    def trim(self, markup: Markup) -> FlatMessages:
        """Strip contents as the template does."""
        import pyarrow as pa
        import pyarrow.compute as pc

        # Most templates trim nothing, and trimming copies all text.
        if not markup.trimmed:
            return self
        before, _, _ = self.neighbours()
        stripped = np.isin(self.role, [ROLES.index(role) for role in markup.trimmed])
        right_only = np.zeros(len(self.role), dtype=bool)
        for earlier, role in markup.unstripped:
            earlier_code = START_CODE if earlier == START else ROLES.index(earlier)
            right_only |= stripped & (before == earlier_code) & (self.role == ROLES.index(role))
        kept = self._kept()
        both = pc.utf8_trim(kept, characters=PYTHON_SPACE)
        right = pc.utf8_rtrim(kept, characters=PYTHON_SPACE)
        contents = pc.if_else(pa.array(stripped), pc.if_else(pa.array(right_only), right, both), kept)
        place = np.arange(len(self.role))
        return FlatMessages(self.role, self.trained, self.example, contents, place, self.examples)

    def blank(self, roles: frozenset[str]) -> np.ndarray:
        """Return positions of messages of these roles that hold nothing but white space."""
        import pyarrow.compute as pc

        if not roles:
            return np.empty(0, dtype=np.int64)
        text = pc.utf8_trim(self._kept(), characters=PYTHON_SPACE)
        empty = np.asarray(pc.equal(pc.binary_length(text), 0))
        return np.flatnonzero(empty & np.isin(self.role, [ROLES.index(role) for role in roles]))

    def different(self, mask: np.ndarray) -> np.ndarray:
        """Number the contents of some messages, int32 [chosen]: the same number for the same text."""
        return different(self.contents.take(indices(self.place[mask])))

    def last_trained(self) -> np.ndarray:
        """Position of each example's last trained message, -1 where none is."""
        last = np.full(self.examples, -1, dtype=np.int64)
        position = np.flatnonzero(self.trained)
        last[self.example[position]] = position
        return last

    def ends(self) -> np.ndarray:
        """Position of each present example's last message."""
        return (
            np.flatnonzero(np.append(self.example[1:] != self.example[:-1], True))
            if len(self.role)
            else np.empty(0, int)
        )

    def neighbours(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return role before each message, its role, and the code of the joint between them."""
        begins = np.append(True, self.example[1:] != self.example[:-1])[: len(self.role)]
        before = np.where(begins, START_CODE, np.roll(self.role, 1))
        before_trained = np.where(begins, False, np.roll(self.trained, 1))
        return before, self.role, PieceTables.code(before, before_trained, self.role, self.trained)

    def _kept(self) -> pa.LargeStringArray:
        """Return the contents of the kept messages alone."""
        whole = len(self.place) == len(self.contents)
        return self.contents if whole else self.contents.take(indices(self.place))
