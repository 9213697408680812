"""Conversations become tokens, on whole columns, as inference would see them.

A conversation is laid out as items: fixed texts, contents, control tokens, and cuts where a trained answer begins.
Neighbouring text items are one run, encoded in one piece as the reference tokenizer encodes it there; a run that
follows a cut goes on from text and gets no dummy prefix. Nothing here looks at one record at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup
from orca_recipes.run import pieces as kinds_of
from orca_recipes.run.arrow import indices, string_buffers
from orca_recipes.run.messages import UNKNOWN, FlatMessages, flatten
from orca_recipes.run.pieces import END_CODE, PieceTables
from orca_recipes.run.proof import texts_to_train
from orca_recipes.run.ragged import interleaved, ragged
from orca_recipes.shards.layout import ROLES, segment_modes

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class Items:
    """The laid-out pieces of a part, in order; `example` is non-decreasing."""

    what: np.ndarray
    payload: np.ndarray
    role: np.ndarray
    trained: np.ndarray
    example: np.ndarray


@dataclass(frozen=True)
class Runs:
    """The runs of text: texts to encode, whether each opens, and the items each spans."""

    texts: pa.LargeStringArray
    opens: np.ndarray
    first_item: np.ndarray
    example: np.ndarray


@dataclass(frozen=True)
class Rendered:
    """The tokens of a part's conversations, in their order.

    Args:
        tokens: uint32 [tokens]. example_starts: int64 [examples + 1] into tokens.
        segment_lengths: int32 [segments], segment_modes: int8 [segments], segment_starts: int64 [examples + 1].
        trained_tokens: int32 [examples], the sum of the loss mask.
        trained_texts: large_binary [examples], the text of each example's trained tokens but its control tokens, as the
            tokenizer keeps it.
        reasons: why a conversation gave no tokens, by position; such an example has no segments.
        disagreeing: positions of checked examples where the fast tokenizer is not the reference.
    """

    tokens: np.ndarray
    example_starts: np.ndarray
    segment_lengths: np.ndarray
    segment_modes: np.ndarray
    segment_starts: np.ndarray
    trained_tokens: np.ndarray
    trained_texts: pa.LargeBinaryArray
    reasons: dict[int, str]
    disagreeing: np.ndarray


class Renderer:
    """A markup and a loaded tokenizer, ready for parts."""

    def __init__(self, *, markup: Markup, encoder: Encoder) -> None:
        self.markup = markup
        self.encoder = encoder
        self.tables = PieceTables(markup, encoder.vocabulary)

    def render(self, *, messages: pl.Series, cut: np.ndarray, check: np.ndarray, exact: bool) -> Rendered:
        """Tokenize conversations.

        Args:
            messages: `frames.MESSAGES` [examples].
            cut: bool [examples], answers that their teacher did not finish: they get no terminator.
            check: bool [examples], compare these with the reference; examples whose text holds a control token's
                text are compared always.
            exact: encode everything with the reference.
        """
        flat = flatten(self._with_default_system(messages))
        flat, reasons = self._renderable(flat)
        items = self._lay_out(flat, cut)
        runs, text_offsets = self._runs(items, flat.contents)
        tokens, run_starts = self._encode(runs, exact)
        disagreeing = np.empty(0, dtype=np.int64)
        if not exact:
            suspects = check | self._holds_control_text(flat, len(messages))
            disagreeing = self._disagreeing(runs, tokens, run_starts, suspects)
        trained_texts = self._trained_texts(items, runs, len(messages))
        return _assemble(
            items, runs, tokens, run_starts, text_offsets, len(messages), trained_texts, reasons, disagreeing
        )

    def _with_default_system(self, messages: pl.Series) -> pl.Series:
        import polars as pl

        if self.markup.default_system is None:
            return messages
        default = pl.lit(
            [{"role": "system", "content": self.markup.default_system, "trained": False}], dtype=messages.dtype
        )
        has_one = pl.col("messages").list.first().struct.field("role") == "system"
        column = pl.when(has_one).then(pl.col("messages")).otherwise(pl.concat_list(default, pl.col("messages")))
        return messages.to_frame("messages").select(column.alias("messages"))["messages"]

    def _renderable(self, flat: FlatMessages) -> tuple[FlatMessages, dict[int, str]]:
        """Keep messages up to the last trained one, and only of conversations that the template can render."""
        reasons: dict[int, str] = {}
        last = flat.last_trained()
        flat = flat.keep(np.arange(len(flat.role)) <= last[flat.example])
        for example in np.flatnonzero(last < 0):
            reasons[int(example)] = "no message is trained"
        before, after, codes = flat.neighbours()
        for position in np.flatnonzero(self.tables.missing[codes])[::-1]:
            reasons[int(flat.example[position])] = _missing_joint(int(before[position]), int(after[position]))
        for position in flat.blank(self.markup.filled)[::-1]:
            role = ROLES[flat.role[position]]
            reasons[int(flat.example[position])] = f"the template has no form for a blank message of role {role}"
        if reasons:
            bad = np.zeros(flat.examples, dtype=bool)
            bad[list(reasons)] = True
            flat = flat.keep(~bad[flat.example])
        return flat.trim(self.markup), reasons

    def _lay_out(self, flat: FlatMessages, cut: np.ndarray) -> Items:
        """Gather the pieces of every message and of every end."""
        _, _, codes = flat.neighbours()
        ends = flat.ends()
        is_end = np.zeros(len(codes) + len(ends), dtype=bool)
        is_end[ends + np.arange(1, len(ends) + 1)] = True
        joints = np.empty(len(is_end), dtype=np.int64)
        joints[~is_end] = codes
        joints[is_end] = PieceTables.code(
            flat.role[ends], flat.trained[ends], np.full(len(ends), END_CODE), np.zeros(len(ends), dtype=bool)
        )
        message = np.cumsum(~is_end) - 1
        counts = self.tables.starts[joints + 1] - self.tables.starts[joints]
        counts[is_end & cut[flat.example[message]]] = 0
        source = ragged(self.tables.starts[joints], counts)
        owner = np.repeat(message, counts)
        what = self.tables.what[source]
        payload = np.where(what == kinds_of.CONTENT, owner, self.tables.payload[source])
        return Items(what, payload, self.tables.role[source], self.tables.trained[source], flat.example[owner])

    def _runs(self, items: Items, contents: pa.LargeStringArray) -> tuple[Runs, np.ndarray]:
        import pyarrow as pa

        is_text = items.what <= kinds_of.CONTENT
        position = np.flatnonzero(is_text)
        pool = pa.concat_arrays([contents, pa.array(self.tables.texts, type=pa.large_string())])
        taken = np.where(
            items.what[position] == kinds_of.TEXT, items.payload[position] + len(contents), items.payload[position]
        )
        texts = pool.take(indices(taken))
        follows = np.zeros(len(items.what), dtype=bool)
        follows[1:] = is_text[:-1] & (items.example[1:] == items.example[:-1])
        first = np.flatnonzero(~follows[position])
        offsets, data = string_buffers(texts)
        run_offsets = np.append(offsets[first], offsets[-1:] if len(offsets) else 0).astype(np.int64)
        first_item = position[first]
        runs = Runs(
            texts=pa.LargeStringArray.from_buffers(len(first), pa.py_buffer(run_offsets), data),
            opens=_opens(items, first_item, np.diff(run_offsets), self.encoder.prefix_only_at_start),
            first_item=first_item,
            example=items.example[first_item],
        )
        return runs, offsets

    def _encode(self, runs: Runs, exact: bool) -> tuple[np.ndarray, np.ndarray]:
        """Encode opening and following runs apart and put them back in order."""

        counts = np.zeros(len(runs.opens), dtype=np.int64)
        encoded = [np.empty(0, dtype=np.uint32)] * 2
        for opens in (True, False):
            group = np.flatnonzero(runs.opens == opens)
            if len(group):
                texts = runs.texts if len(group) == len(runs.opens) else runs.texts.take(indices(group))
                encoded[opens], offsets = self.encoder.encode(texts=texts, opens=opens, exact=exact)
                counts[group] = np.diff(offsets)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        following, opening = encoded
        return interleaved(runs.opens, counts, opening, following), starts

    def _trained_texts(self, items: Items, runs: Runs, examples: int) -> pa.LargeBinaryArray:

        trained = np.flatnonzero(items.trained[runs.first_item])
        return texts_to_train(
            texts=runs.texts.take(indices(trained)),
            opens=runs.opens[trained],
            owners=runs.example[trained],
            examples=examples,
            encoder=self.encoder,
        )

    def _holds_control_text(self, flat: FlatMessages, examples: int) -> np.ndarray:
        import polars as pl

        found = np.zeros(examples, dtype=bool)
        patterns = sorted(self.encoder.vocabulary.control)
        if patterns and len(flat.role):
            contents: Any = pl.from_arrow(flat.contents)
            hits = contents.str.contains_any(patterns).to_numpy()
            found[flat.example[hits]] = True
        return found

    def _disagreeing(self, runs: Runs, tokens: np.ndarray, starts: np.ndarray, suspects: np.ndarray) -> np.ndarray:
        """Examples among the suspects whose runs the reference encodes otherwise."""

        checked = np.flatnonzero(suspects[runs.example])
        if not len(checked):
            return np.empty(0, dtype=np.int64)
        part = Runs(
            runs.texts.take(indices(checked)), runs.opens[checked], runs.first_item[checked], runs.example[checked]
        )
        truth, truth_starts = self._encode(part, exact=True)
        counts = np.diff(starts)[checked]
        differs = counts != np.diff(truth_starts)
        same = np.flatnonzero(~differs)
        ours = tokens[ragged(starts[checked[same]], counts[same])]
        theirs = truth[ragged(truth_starts[same], counts[same])]
        differs[same[np.repeat(np.arange(len(same)), counts[same])[ours != theirs]]] = True
        return np.unique(part.example[differs])


def _missing_joint(before: int, after: int) -> str:
    if after == UNKNOWN:
        return "the template has no message of a role other than system, user, assistant and tool"
    if before == kinds_of.START_CODE:
        return f"the template cannot begin a conversation with a message of role {ROLES[after]}"
    return f"the template has no message of role {ROLES[after]} after one of role {ROLES[before]}"


def _opens(items: Items, first_item: np.ndarray, run_bytes: np.ndarray, only_at_start: bool) -> np.ndarray:
    """Whether each run stands at the start of its example or after a control token, rather than after text."""
    if only_at_start:
        return np.asarray((first_item == 0) | (items.example[first_item - 1] != items.example[first_item]))
    opens = np.ones(len(first_item), dtype=bool)
    before = first_item - 1
    after_cut = (
        (before >= 0) & (items.what[before] == kinds_of.CUT) & (items.example[before] == items.example[first_item])
    )
    previous = np.flatnonzero(after_cut)
    item_before_cut = first_item[previous] - 2
    goes_on = (
        (item_before_cut >= 0)
        & (items.what[item_before_cut] <= kinds_of.CONTENT)
        & (items.example[item_before_cut] == items.example[first_item[previous]])
    )
    followers = previous[goes_on]
    opens[followers] = run_bytes[followers - 1] == 0
    return opens


def _assemble(
    items: Items,
    runs: Runs,
    run_tokens: np.ndarray,
    run_starts: np.ndarray,
    text_offsets: np.ndarray,
    examples: int,
    trained_texts: pa.LargeBinaryArray,
    reasons: dict[int, str],
    disagreeing: np.ndarray,
) -> Rendered:
    """Put runs and control tokens in their order, and find the segments."""
    element = _elements(items, runs, text_offsets)
    lengths = np.ones(len(element.item), dtype=np.int64)
    lengths[element.is_run] = np.diff(run_starts)
    control = items.payload[element.item[~element.is_run]].astype(np.uint32)
    tokens = interleaved(element.is_run, lengths, run_tokens, control)
    present = lengths > 0
    example, role, trained = (column[present] for column in (element.example, element.role, element.trained))
    begins = np.append(True, example[1:] != example[:-1])[: len(example)]
    breaks = np.flatnonzero(
        begins | np.append(True, (role[1:] != role[:-1]) | (trained[1:] != trained[:-1]))[: len(example)]
    )
    segment_lengths = np.add.reduceat(lengths[present], breaks) if len(breaks) else np.empty(0, np.int64)
    modes = segment_modes(trained=trained[breaks], starts=begins[breaks], roles=role[breaks])
    per_example = np.bincount(example, weights=lengths[present], minlength=examples).astype(np.int64)
    segments = np.bincount(example[breaks], minlength=examples)
    example_starts = np.concatenate([[0], np.cumsum(per_example)]).astype(np.int64)
    trained_tokens = np.bincount(example, weights=lengths[present] * trained, minlength=examples).astype(np.int64)
    first_trained = example[begins & trained]
    trained_tokens[first_trained] -= 1
    return Rendered(
        tokens=tokens,
        example_starts=example_starts,
        segment_lengths=segment_lengths.astype(np.int32),
        segment_modes=modes,
        segment_starts=np.concatenate([[0], np.cumsum(segments)]).astype(np.int64),
        trained_tokens=trained_tokens.astype(np.int32),
        trained_texts=trained_texts,
        reasons=reasons,
        disagreeing=disagreeing,
    )


@dataclass(frozen=True)
class _Elements:
    """Runs and control tokens in order."""

    item: np.ndarray
    is_run: np.ndarray
    example: np.ndarray
    role: np.ndarray
    trained: np.ndarray


def _elements(items: Items, runs: Runs, text_offsets: np.ndarray) -> _Elements:
    control = np.flatnonzero(items.what == kinds_of.CONTROL)
    item = np.sort(np.concatenate([runs.first_item, control]))
    is_run = items.what[item] != kinds_of.CONTROL
    role = items.role[item].astype(np.int64)
    role[is_run] = _run_roles(items, runs, text_offsets)
    return _Elements(item, is_run, items.example[item], role, items.trained[item])


def _run_roles(items: Items, runs: Runs, text_offsets: np.ndarray) -> np.ndarray:
    """The role of each run's text, 0 where it holds two; a content without text holds no role."""
    if not len(runs.first_item):
        return np.empty(0, dtype=np.int64)
    texts = np.flatnonzero(items.what <= kinds_of.CONTENT)
    starts = np.searchsorted(texts, runs.first_item)
    role = items.role[texts].astype(np.int64)
    empty = np.diff(text_offsets) == 0
    low = np.minimum.reduceat(np.where(empty, len(ROLES), role), starts)
    high = np.maximum.reduceat(np.where(empty, 0, role), starts)
    return np.where(low == high, low, 0)
