"""Conversations that no table of joints renders, one at a time, as inference would render each of their turns.

Each trained turn is written out by the template itself (`contract.templates.turn_texts`), cut at control tokens, and
encoded as any other run of text. The prompt's ids are held against those of inference: a row where they differ is
unfit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.dialogues import Dialogue, Unfit
from orca_recipes.contract.templates.thought_advice import ThoughtAdvice
from orca_recipes.contract.templates.turn_texts import Closed, TurnText, TurnWriter
from orca_recipes.contract.trained_parts import TrainedParts
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.run.renderers.masked_parts import masked
from orca_recipes.run.renderers.turn_examples import Joining, TurnExample, examples_of, joinings, spans_of
from orca_recipes.run.renderers.turn_runs import Laid
from orca_recipes.run.segments.joined_examples import joined
from orca_recipes.run.segments.rendered_segments import Held, Rendered, assembled
from orca_recipes.run.segments.run_encoder import RunEncoder
from orca_recipes.shards.layout import is_trained
from orca_recipes.store.arrow_files import indices

if TYPE_CHECKING:
    import pyarrow as pa

_OTHER_IDS = "inference would see other tokens before its answer than a build trains after"


@dataclass(frozen=True)
class TurnsRendered:
    """Examples made of conversations one at a time.

    examples: in the order of conversations. rendered: their tokens; None where there is no example.
    reasons: why others gave none, by position of the conversation.
    by_part: the trained tokens of each by `trained_parts.PARTS`, where somebody says which parts are trained.
    """

    examples: Sequence[TurnExample]
    rendered: Rendered | None
    reasons: Mapping[int, str]
    by_part: Sequence[Sequence[int] | None] | None = None


class TurnRenderer:
    """A template that is rendered a conversation at a time, with a loaded tokenizer."""

    def __init__(self, rendering: Rendering, encoder: Encoder, inference: Inference) -> None:
        vocabulary = encoder.vocabulary
        self._encoder = encoder
        self._inference = inference
        self.writer = TurnWriter(inference.template, rendering, vocabulary.control, vocabulary.bos)
        self._advice = ThoughtAdvice(inference.template, rendering, vocabulary)
        longest_first = sorted(vocabulary.control, key=lambda text: (-len(text), text))
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._places = {text: place for place, text in enumerate(longest_first)}
        controls = np.array([vocabulary.control[text] for text in longest_first], dtype=np.int64)
        self._runs = RunEncoder(encoder, controls)

    def render(
        self,
        dialogues: Mapping[int, Dialogue],
        *,
        check: np.ndarray,
        exact: bool,
        parts: Mapping[int, TrainedParts] = MappingProxyType({}),
    ) -> TurnsRendered:
        """Tokenize conversations.

        Args:
            dialogues: by position, rising. check: bool [conversations], compare these with the reference.
            exact: encode everything with the reference.
            parts: those that are trained, by position, of conversations of which somebody says it; else all are.
        """
        turns: dict[int, list[TurnText]] = {}
        reasons: dict[int, str] = {}
        for owner, dialogue in dialogues.items():
            try:
                turns[owner] = self.writer.turns(dialogue)
            except Closed as closed:
                reasons[owner] = f"{closed}{self._advice.advice(dialogue)}"
            except Unfit as unfit:
                reasons[owner] = str(unfit)
        # Each pair of texts is asked about once: the same header stands before thousands of answers.
        parted = self._parted({one for told in turns.values() for one in joinings(told, self._control)}, exact)
        examples = [
            example for owner, told in turns.items() for example in examples_of(owner, told, self._control, parted)
        ]
        if not examples:
            return TurnsRendered((), None, reasons)
        rendered = self._rendered(examples, dialogues, check, exact)
        for at in self._other_than_inference(examples, rendered):
            reasons[examples[at].owner] = _OTHER_IDS
        if not parts:
            return TurnsRendered(examples, rendered, reasons)
        rendered, by_part, untold = masked(examples, rendered, parts, self._encoder)
        # An example with nothing to train is none, unless its conversation has no other.
        something = [count is None or sum(count) > 0 for count in by_part]
        trains = {example.owner for example, is_trained in zip(examples, something, strict=True) if is_trained}
        kept = [at for at, one in enumerate(examples) if something[at] or one.owner not in trains]
        return TurnsRendered(
            [examples[at] for at in kept],
            joined([(rendered, np.array(kept, dtype=np.int64))], np.arange(len(kept))),
            {**untold, **reasons},
            [by_part[at] for at in kept],
        )

    def _rendered(
        self, examples: Sequence[TurnExample], dialogues: Mapping[int, Dialogue], check: np.ndarray, exact: bool
    ) -> Rendered:
        laid = Laid(self._control, self._places, self._encoder.prefix_only_at_start)
        for example in examples:
            laid.add(list(spans_of(example, dialogues[example.owner].messages, self._control)))
        items, runs = laid.arranged()
        encoded = self._runs.encoded(runs.texts, runs.opening, exact)
        disagreeing = np.empty(0, dtype=np.int64)
        if not exact:
            disagreeing = self._runs.disagreeing(runs, encoded, check[[example.owner for example in examples]])
        return assembled(
            items,
            runs,
            encoded,
            examples=len(examples),
            trained_texts=self._runs.trained_texts(items, runs, len(examples)),
            reasons={},
            disagreeing=disagreeing,
            unspelt=self._runs.unspelt(items, runs, encoded, len(examples)),
            changed=self._changed(examples, dialogues),
            marked=np.zeros(len(examples), dtype=bool),
        )

    def _parted(self, wanted: set[Joining], exact: bool) -> dict[Joining, bool]:
        """Tell for each joining whether it has other tokens when encoded whole than in two pieces."""
        import pyarrow as pa

        found = {one: False for one in wanted if not one.before or not one.after}
        # Sets have another order in each process: sorted, texts are encoded in one order everywhere.
        rest = sorted(wanted - found.keys(), key=lambda one: (one.before, one.after, one.is_start))
        for opens in (True, False):
            told = [one for one in rest if opens == (one.is_start or not self._encoder.prefix_only_at_start)]
            if not told:
                continue
            pieces = (
                ([one.before + one.after for one in told], opens),
                ([one.before for one in told], opens),
                ([one.after for one in told], False),
            )
            whole, before, after = (
                _rows(*self._encoder.encode(texts=pa.array(texts, type=pa.large_string()), opens=way, exact=exact))
                for texts, way in pieces
            )
            found |= {one: whole[at] != before[at] + after[at] for at, one in enumerate(told)}
        return found

    def _changed(self, examples: Sequence[TurnExample], dialogues: Mapping[int, Dialogue]) -> Held:
        """Find the examples with a content that the tokenizer's normalizer changes."""
        import pyarrow as pa

        owners, trained, texts = [], [], []
        for at, example in enumerate(examples):
            places = {turn.place for turn in example.turns}
            for place, message in enumerate(dialogues[example.owner].messages[: example.turns[-1].place + 1]):
                owners.append(at)
                trained.append(place in places)
                texts.append(message.get("content") or "")
        hits = np.flatnonzero(self._encoder.changed(texts=pa.array(texts, type=pa.large_string())))
        return Held.of(np.array(owners)[hits], np.array(trained)[hits], len(examples))

    def _other_than_inference(self, examples: Sequence[TurnExample], rendered: Rendered) -> Iterator[int]:
        """Yield the positions of examples with a prompt whose ids differ from those inference gives its text."""
        prompts = [turn.prompt for example in examples for turn in example.turns]
        expected = iter(self._inference.ids(prompts))
        for at, example in enumerate(examples):
            first, last = rendered.segment_starts[at : at + 2]
            ends = np.cumsum(rendered.segment_lengths[first:last])
            trained = np.flatnonzero(is_trained(rendered.segment_modes[first:last]))
            begins = (ends - rendered.segment_lengths[first:last])[trained].tolist()
            start = int(rendered.example_starts[at])
            wanted = [next(expected) for _ in example.turns]
            found = [rendered.tokens[start : start + begin].tolist() for begin in begins]
            if found != wanted:
                yield at


def dialogues_of(conversations: pa.Table, positions: Sequence[int]) -> dict[int, Dialogue]:
    """Return some conversations of a table (`frames.STORED_CONVERSATIONS`) as they are stored, by their position."""
    names = [name for name in ("messages", "tools", "template_kwargs", "cut") if name in conversations.column_names]
    rows = conversations.select(names).take(indices(np.array(positions, dtype=np.int64))).to_pylist()
    return {position: _dialogue(row) for position, row in zip(positions, rows, strict=True)}


def _dialogue(row: Mapping[str, Any]) -> Dialogue:
    return Dialogue(
        messages=row["messages"] or (),
        tools=json.loads(row.get("tools") or "[]"),
        variables=json.loads(row.get("template_kwargs") or "{}"),
        is_cut=bool(row["cut"]),
    )


def _rows(ids: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    told, bounds = ids.tolist(), offsets.tolist()
    return [told[start:stop] for start, stop in pairwise(bounds)]
