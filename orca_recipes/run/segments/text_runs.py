"""The runs of text between control tokens and cuts, and the few different texts that they are.

What stands between messages, and system messages, are the same again and again: a text that many runs have is made and
encoded once. Texts stand in groups, by whether they open and whether they are trained, so that whoever wants one group
takes a slice of memory and copies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.run.segments.flat_messages import FlatMessages
from orca_recipes.run.segments.items import Items
from orca_recipes.run.segments.ragged import ragged
from orca_recipes.run.segments.template_pieces import CONTENT, CUT
from orca_recipes.shards.layout import ROLES
from orca_recipes.store.arrow_files import different, indices, string_buffers

if TYPE_CHECKING:
    import pyarrow as pa

_SYSTEM = ROLES.index("system")


@dataclass(frozen=True)
class Runs:
    """The runs of text of a part, in order.

    Args:
        first_item: int64 [runs]. example: int32 [runs].
        role: int8 [runs], of the run's text: 0 where it holds two, or none because it is empty.
        texts: large_string [texts], what to encode: first those that open, then those that go on from text.
        text: int64 [runs], the text of each run.
        opening: how many texts open.
        trained: bounds of the texts of trained runs, each its own, in the order of runs where all or none open.
    """

    first_item: np.ndarray
    example: np.ndarray
    role: np.ndarray
    texts: pa.LargeStringArray
    text: np.ndarray
    opening: int
    trained: tuple[int, int]

    def opens(self, texts: np.ndarray) -> np.ndarray:
        """Return bool [n]: which of some texts open."""
        return np.asarray(texts < self.opening)


def runs_of(items: Items, flat: FlatMessages, fixed: pa.LargeStringArray, *, only_at_start: bool) -> Runs:
    """Find the runs, and gather their texts.

    Args:
        fixed: large_string, the texts that payloads of fixed texts point into.
        only_at_start: only a run at the very start of an example opens.
    """
    found = _Found.of(items, flat, fixed)
    opens = found.opens(only_at_start)
    trained = items.trained[found.first_item]
    same = found.same_text(flat, opens, trained)
    is_own = same == np.arange(len(same))
    groups = [np.flatnonzero(is_own & (opens == one) & (trained == two)) for one, two in _GROUPS]
    order = np.concatenate(groups)
    text = np.empty(len(same), dtype=np.int64)
    text[order] = np.arange(len(order))
    sizes = [len(group) for group in groups]
    return Runs(
        first_item=found.first_item,
        example=items.example[found.first_item],
        role=found.roles(),
        texts=found.texts(order, flat, fixed),
        text=text[same],
        opening=sizes[0] + sizes[1],
        trained=(sizes[0], sizes[0] + sizes[1] + sizes[2]),
    )


_GROUPS = ((True, False), (True, True), (False, True), (False, False))
"""Whether texts open and whether they are trained: trained ones stand together, and so do those that open."""


@dataclass(frozen=True)
class _Found:
    """Positions of runs among the text items.

    position: int64 [text items], into items. first: int64 [runs], into position. first_item: int64 [runs], into items.
    pooled: int64 [text items], into the contents and then the fixed texts. size: int64 [text items], bytes.
    """

    items: Items
    position: np.ndarray
    first: np.ndarray
    first_item: np.ndarray
    pooled: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, items: Items, flat: FlatMessages, fixed: pa.LargeStringArray) -> _Found:
        is_text = items.what <= CONTENT
        begins = is_text.copy()
        begins[1:] &= ~is_text[:-1] | (items.example[1:] != items.example[:-1])
        position = np.flatnonzero(is_text)
        pooled = items.payload[position] + np.int64(len(flat.contents))
        # Contents and fixed texts stand in one pool, so that one gather takes both.
        pooled[items.what[position] == CONTENT] = flat.place  # each message has one, in their order
        size = np.concatenate([np.diff(string_buffers(texts)[0]) for texts in (flat.contents, fixed)])[pooled]
        return cls(items, position, np.flatnonzero(begins[position]), np.flatnonzero(begins), pooled, size)

    def opens(self, only_at_start: bool) -> np.ndarray:
        """Tell for each run whether it opens: at the start of its example or after a control token, not after text."""
        items, first = self.items, self.first_item
        if only_at_start:
            return np.asarray((first == 0) | (items.example[first - 1] != items.example[first]))
        opens = np.ones(len(first), dtype=bool)
        before = first - 1
        after_cut = (before >= 0) & (items.what[before] == CUT) & (items.example[before] == items.example[first])
        previous = np.flatnonzero(after_cut)
        item_before_cut = first[previous] - 2
        # Behind a cut without text before it stands a control token or nothing: the text there opens as any other.
        goes_on = (
            (item_before_cut >= 0)
            & (items.what[item_before_cut] <= CONTENT)
            & (items.example[item_before_cut] == items.example[first[previous]])
        )
        followers = previous[goes_on]
        opens[followers] = ~self._is_filled[followers - 1]
        return opens

    def roles(self) -> np.ndarray:
        """Return int8 [runs]: the role of each run's text, 0 where it holds two; a content without text holds no
        role."""
        role = self.items.role[self.position]
        differs = role[1:] != role[:-1]
        differs[self.first[1:] - 1] = False
        if not differs.any():
            return np.asarray(np.where(self._is_filled, role[self.first], 0), dtype=np.int8)
        low = np.minimum.reduceat(np.where(self.size == 0, len(ROLES), role), self.first)
        high = np.maximum.reduceat(np.where(self.size == 0, 0, role), self.first)
        return np.asarray(np.where(low == high, low, 0), dtype=np.int8)

    def same_text(self, flat: FlatMessages, opens: np.ndarray, trained: np.ndarray) -> np.ndarray:
        """Return int64 [runs]: the first run that is known to have the same text and to be encoded as it is; often
        itself.

        Known are runs that are not trained and hold no content, or no other than one system message.
        """
        items = self.items
        run = np.cumsum(np.bincount(self.first, minlength=len(self.position))) - 1
        holder = run[items.what[self.position] == CONTENT]
        contents = np.bincount(holder, minlength=len(self.first))
        system = np.zeros(len(self.first), dtype=np.int64)
        system[holder[flat.role == _SYSTEM]] = 1 + flat.different(flat.role == _SYSTEM)
        known = np.flatnonzero(~trained & (contents == (system > 0)))
        # What stands between the first piece and the last is the template's, but for the content.
        last = np.append(self.first[1:], len(self.position))[known] - 1
        begins = items.source[self.first_item[known]].astype(np.int64)
        ends = items.source[self.position[last]].astype(np.int64)
        # One number for the three facts: numbers are compared and hashed many times faster than rows of them.
        widths = (int(ends.max(initial=0)) + 1, int(system.max(initial=0)) + 1, 2)
        keys = ((begins * widths[0] + ends) * widths[1] + system[known]) * widths[2] + opens[known]
        same = np.arange(len(self.first))
        same[known] = known[_first_alike(keys)]
        return same

    def texts(self, runs: np.ndarray, flat: FlatMessages, fixed: pa.LargeStringArray) -> pa.LargeStringArray:
        """Join the text items of each of the given runs into one text."""
        import pyarrow as pa

        counts = np.diff(self.first, append=len(self.position))[runs]
        taken = self.pooled[ragged(self.first[runs], counts)]
        found = pa.chunked_array([flat.contents, fixed]).take(indices(taken))
        offsets, data = string_buffers(found.chunk(0) if found.num_chunks == 1 else found.combine_chunks())
        bounds = np.zeros(len(runs) + 1, dtype=np.int64)
        bounds[1:] = offsets[np.cumsum(counts)]
        return pa.LargeStringArray.from_buffers(len(runs), pa.py_buffer(bounds), data)

    @cached_property
    def _is_filled(self) -> np.ndarray:
        return np.asarray(np.add.reduceat(self.size, self.first) > 0)


def _first_alike(keys: np.ndarray) -> np.ndarray:
    """Return int64 [n]: the first place that holds the same key; hashed, because there are few different ones."""
    codes = different(indices(keys))
    first = np.empty(codes.max(initial=-1) + 1, dtype=np.int64)
    # Of several writes to one place numpy keeps the last: backwards, that is the first run.
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return np.asarray(first[codes])
