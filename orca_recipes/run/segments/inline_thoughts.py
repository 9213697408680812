"""Thoughts between marks in the content of trained answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.rendering import MARKS
from orca_recipes.contract.templates.dialogues import NEVER_ENDS
from orca_recipes.store.arrow_files import indices, one_piece, string_buffers

if TYPE_CHECKING:
    import pyarrow as pa

_BLANK = b"\t\n\f\r "
"""What `\\s` is to RE2, the library behind Arrow's regular expressions."""


@dataclass(frozen=True)
class Thoughts:
    """bool [conversations] each: some: a thought ends in an answer. never_end: an answer begins with one that does not
    end in it."""

    some: np.ndarray
    never_end: np.ndarray


def with_thoughts(conversations: pa.Table, marks: tuple[str, str] = MARKS) -> Thoughts:
    """Look for thoughts in the answers that conversations train. marks: what opens and closes one."""
    import pyarrow.compute as pc

    opening, closing = marks
    messages = one_piece(conversations["messages"])
    flat = messages.flatten()
    some, never_end = (np.zeros(conversations.num_rows, dtype=bool) for _ in range(2))
    content = flat.field("content")
    begins = _begin_with(content, opening)
    ends = _flags(pc.match_substring(content, closing))
    if begins.any() or ends.any():
        answers = _flags(flat.field("trained")) & _flags(pc.equal(flat.field("role"), "assistant"))
        owners = pc.list_parent_indices(messages).to_numpy()
        some[owners[ends & answers]] = True
        never_end[owners[begins & ~ends & answers]] = True
    return Thoughts(some, never_end)


def left_open(conversations: pa.Table) -> dict[int, str]:
    """Return the reason to reject each conversation that trains an answer with a thought left open, by position."""
    if not _begin_with(one_piece(conversations["messages"]).flatten().field("content"), MARKS[0]).any():
        return {}
    return dict.fromkeys(np.flatnonzero(with_thoughts(conversations).never_end).tolist(), NEVER_ENDS)


def _begin_with(texts: pa.LargeStringArray, mark: str) -> np.ndarray:
    """Return bool [texts]: which begin with a mark, behind white space or none."""
    import pyarrow.compute as pc

    offsets, data = string_buffers(texts)
    found = np.zeros(len(texts), dtype=bool)
    if len(texts) and offsets[0] < offsets[-1]:
        # A regular expression costs as much for a text as reading it does: few texts have a first byte that fits.
        fits = np.zeros(256, dtype=bool)
        fits[list(_BLANK + mark.encode()[:1])] = True
        # An empty text has the first byte of the next one, or the last of all: the expression tells.
        first = np.frombuffer(data, dtype=np.uint8)[np.minimum(offsets[:-1], offsets[-1] - 1)]
        near = np.flatnonzero(fits[first])
        found[near] = _flags(pc.match_substring_regex(texts.take(indices(near)), rf"^\s*{re.escape(mark)}"))
    return found


def _flags(column: pa.BooleanArray) -> np.ndarray:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False))
