"""Conversations become tokens, on whole columns, as inference would see them.

A conversation is laid out as items: fixed texts, contents, control tokens, and cuts where a trained answer begins.
Neighbouring text items are one run, encoded in one piece as the reference tokenizer encodes it there; a run that
follows a cut goes on from text and gets no dummy prefix. Nothing here looks at one record at a time.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup
from orca_recipes.run.renderers.markers import markers
from orca_recipes.run.segments.flat_messages import UNKNOWN, FlatMessages, flatten
from orca_recipes.run.segments.items import lay_out
from orca_recipes.run.segments.rendered_segments import Held, Rendered, assembled
from orca_recipes.run.segments.run_encoder import RunEncoder
from orca_recipes.run.segments.template_pieces import START_CODE, PieceTables
from orca_recipes.run.segments.text_runs import Runs, runs_of
from orca_recipes.shards.layout import ROLES

if TYPE_CHECKING:
    import pyarrow as pa


class Renderer:
    """A markup and a loaded tokenizer, ready for parts."""

    def __init__(self, *, markup: Markup, encoder: Encoder, earlier: Markup | None = None) -> None:
        """earlier: as for `PieceTables`."""
        self.markup = markup
        self.encoder = encoder
        self.tables = PieceTables(markup, encoder.vocabulary, earlier)
        self.runs = RunEncoder(encoder, np.array(self.tables.controls, dtype=np.int64))

    def render(self, *, messages: pa.LargeListArray, cut: np.ndarray, check: np.ndarray, exact: bool) -> Rendered:
        """Tokenize conversations.

        Args:
            messages: `frames.MESSAGES` [examples], as Arrow has them.
            cut: bool [examples], answers that their teacher did not finish: they get no terminator.
            check: bool [examples], compare these with the reference; examples whose text holds a control token's
                text are compared always.
            exact: encode everything with the reference.
        """
        flat = flatten(self._with_default_system(messages))
        flat, reasons = self._renderable(flat)
        items = lay_out(flat, cut, self.tables)
        runs = runs_of(items, flat, self._fixed, only_at_start=self.encoder.prefix_only_at_start)
        encoded = self.runs.encoded(runs.texts, runs.opening, exact)
        marked = self._marked(runs, flat)
        disagreeing = np.empty(0, dtype=np.int64)
        if not exact:
            disagreeing = self.runs.disagreeing(runs, encoded, check | marked)
        trained_texts = self.runs.trained_texts(items, runs, len(messages))
        return assembled(
            items,
            runs,
            encoded,
            examples=len(messages),
            trained_texts=trained_texts,
            reasons=reasons,
            disagreeing=disagreeing,
            unspelt=self.runs.unspelt(items, runs, encoded, len(messages)),
            changed=self._changed(flat),
            marked=marked,
        )

    def _with_default_system(self, messages: pa.LargeListArray) -> pa.LargeListArray:
        import polars as pl

        if self.markup.default_system is None:
            return messages
        column: Any = pl.from_arrow(messages)
        default = pl.lit(
            [{"role": "system", "content": self.markup.default_system, "trained": False}], dtype=column.dtype
        )
        has_one = pl.col("messages").list.first().struct.field("role") == "system"
        told = pl.when(has_one).then(pl.col("messages")).otherwise(pl.concat_list(default, pl.col("messages")))
        found = column.to_frame("messages").select(told.alias("messages"))["messages"]
        return cast("pa.LargeListArray", found.rechunk().to_arrow())

    def _renderable(self, flat: FlatMessages) -> tuple[FlatMessages, dict[int, str]]:
        """Keep messages up to the last trained one, and only of conversations that the template can render."""
        reasons: dict[int, str] = {}
        last = flat.last_trained()
        # What follows the last trained answer is never learned from, and would only take room in a row.
        flat = flat.keep(np.arange(len(flat.role)) <= last[flat.example])
        for example in np.flatnonzero(last < 0):
            reasons[int(example)] = "no message is trained"
        before, after, codes = flat.neighbours()
        # Backwards, so that of several faults the first one of a conversation is the one that stays.
        for position in np.flatnonzero(self.tables.missing[codes])[::-1]:
            reasons[int(flat.example[position])] = _missing_joint(int(before[position]), int(after[position]))
        # Templates print words of their own in place of nothing ("No content"), and those are in no markup.
        for position in flat.blank(self.markup.filled)[::-1]:
            role = ROLES[flat.role[position]]
            reasons[int(flat.example[position])] = f"the template has no form for a blank message of role {role}"
        if reasons:
            bad = np.zeros(flat.examples, dtype=bool)
            bad[list(reasons)] = True
            flat = flat.keep(~bad[flat.example])
        return flat.trim(self.markup), reasons

    def _changed(self, flat: FlatMessages) -> Held:
        hits = np.flatnonzero(self.encoder.changed(texts=flat.contents)[flat.place])
        return Held.of(flat.example[hits], flat.trained[hits], flat.examples)

    def _marked(self, runs: Runs, flat: FlatMessages) -> np.ndarray:
        """Return bool [examples]: where a run holds what control tokens look like (a content is a part of a run), or
        a content something else that the template prints or looks for."""
        found = np.zeros(flat.examples, dtype=bool)
        in_runs, in_contents = self._markers
        if len(runs.text):
            hits = _holding(runs.texts, in_runs)
            found[runs.example[hits[runs.text]]] = True
            found[flat.example[_holding(flat.contents, in_contents)[flat.place]]] = True
        return found

    @cached_property
    def _markers(self) -> tuple[list[str], list[str]]:
        """Return texts that make an example worth a look: for runs those that no fixed text holds, for contents the
        others."""
        control, others = sorted(self.encoder.vocabulary.control), markers(self.markup)
        # A marker that fixed text holds stands in every run: there only contents tell which example is worth a look.
        fixed = "\0".join(self.tables.texts)
        return (
            control + [text for text in others if text not in fixed and text not in control],
            [text for text in others if text in fixed],
        )

    @cached_property
    def _fixed(self) -> pa.LargeStringArray:
        import pyarrow as pa

        return pa.array(self.tables.texts, type=pa.large_string())


def _holding(texts: pa.LargeStringArray, patterns: list[str]) -> np.ndarray:
    """Return bool [texts]: which hold one of the patterns."""
    import polars as pl

    if not patterns:
        return np.zeros(len(texts), dtype=bool)
    column: Any = pl.from_arrow(texts)
    return np.asarray(column.str.contains_any(patterns).to_numpy())


def _missing_joint(before: int, after: int) -> str:
    if after == UNKNOWN:
        return "the template has no message of a role other than system, user, assistant and tool"
    if before == START_CODE:
        return f"the template cannot begin a conversation with a message of role {ROLES[after]}"
    return f"the template has no message of role {ROLES[after]} after one of role {ROLES[before]}"
