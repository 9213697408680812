"""Parts of answers that are not trained, taken out of the mask once the tokens of an answer are made.

Tokens are those of the whole answer, as the model would generate it. A token that holds the end of one part and the
beginning of another is trained only where both are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.templates.turn_texts import TurnText
from orca_recipes.contract.trained_parts import PARTS, TrainedParts
from orca_recipes.run.renderers.turn_examples import TurnExample
from orca_recipes.run.segments.rendered_segments import Rendered
from orca_recipes.run.segments.trained_text import trained_texts
from orca_recipes.shards.layout import is_trained, role_codes, segment_modes

# Some tokenizers decode a token by what stands before it (a leading space): a few tokens of the prompt settle that.
_BEFORE = 8
"""Tokens before an answer that are decoded with it, because decoders look at neighbours."""

_OTHER_TEXT = "train_on: the tokenizer changes the answer's text, so that its parts cannot be told apart"

Counts = tuple[int, ...] | None


def masked(
    examples: Sequence[TurnExample], rendered: Rendered, wanted: Mapping[int, TrainedParts], encoder: Encoder
) -> tuple[Rendered, list[Counts], dict[int, str]]:
    """Restrict the loss mask of examples to the wanted parts. wanted: by position of conversations; others keep all
    parts.

    Returns: them, the trained tokens by PARTS of each of the wanted, None of others, and why conversations cannot be
    trained so, by their position.
    """
    tokens, lengths, modes, sizes, trained = [], [], [], [], []
    counts: list[Counts] = []
    reasons: dict[int, str] = {}
    for at, example in enumerate(examples):
        first, last = rendered.segment_starts[at : at + 2]
        start, stop = rendered.example_starts[at : at + 2]
        held, ids = rendered.segment_modes[first:last], rendered.tokens[start:stop]
        spans, roles = rendered.segment_lengths[first:last], role_codes(rendered.segment_modes[first:last])
        ends = np.cumsum(spans)
        mask, count = np.repeat(is_trained(held), spans), dict.fromkeys(PARTS, 0)
        parts = wanted.get(example.owner)
        answers = np.flatnonzero(is_trained(held)).tolist() if parts is not None else []
        for turn, answer in zip(example.turns, answers, strict=parts is not None):
            begin, end = int(ends[answer] - spans[answer]), int(ends[answer])
            places = _Places(ids[max(0, begin - _BEFORE) : end], min(begin, _BEFORE), encoder)
            # Places of characters are counted in what the tokens say: a normalizer that changed the text would shift
            # them.
            if places.text != turn.answer:
                reasons[example.owner] = _OTHER_TEXT
                break
            assert parts is not None, "only answers of which somebody says the parts are looked at"
            _take_out(mask, turn, places, begin, parts, count)
        # What stands behind the last trained token is nobody's context.
        size = int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else len(mask)
        mask, wide = mask[:size], np.repeat(roles, spans)[:size]
        tokens.append(ids[:size])
        bounds = np.concatenate([[0], np.flatnonzero((wide[1:] != wide[:-1]) | (mask[1:] != mask[:-1])) + 1])
        lengths.append(np.diff(np.append(bounds, len(mask))))
        modes.append(segment_modes(trained=mask[bounds], starts=bounds == 0, roles=wide[bounds]))
        sizes.append(len(bounds))
        # The first token of an example is never a label, since nothing stands before it.
        trained.append(int(mask.sum()) - int(mask[0]))
        counts.append(None if parts is None else tuple(count.values()))
    all_lengths, all_modes = np.concatenate(lengths).astype(np.int32), np.concatenate(modes)
    all_tokens = np.concatenate(tokens)
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])]).astype(np.int64)
    texts = trained_texts(
        tokens=all_tokens,
        lengths=all_lengths,
        modes=all_modes,
        example_starts=starts,
        encoder=encoder,
    )
    made = replace(
        rendered,
        tokens=all_tokens,
        example_starts=starts,
        segment_lengths=all_lengths,
        segment_modes=all_modes,
        segment_starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        trained_tokens=np.array(trained, dtype=np.int32),
        trained_texts=texts,
    )
    return made, counts, reasons


def _take_out(
    mask: np.ndarray, turn: TurnText, places: _Places, begin: int, wanted: TrainedParts, count: dict[str, int]
) -> None:
    """Take unwanted parts out of the mask of an example, in place, and count the remaining trained tokens by part."""
    for span in turn.parts:
        if not wanted.has(span.part):
            # From the token that holds the part's first character, since half a token cannot be untrained.
            mask[begin + places.before(span.begin) : begin + places.after(span.stop)] = False
    for span in turn.parts:
        first, last = begin + places.after(span.begin), begin + places.after(span.stop)
        count[span.part] += int(mask[first:last].sum())


class _Places:
    """Positions of an answer's characters among its tokens."""

    def __init__(self, ids: np.ndarray, before: int, encoder: Encoder) -> None:
        """ids: of the answer, behind so many tokens that stand before it."""
        self._ids, self._before, self._encoder = ids, before, encoder
        self._lead = len(encoder.decode(ids=ids[:before].astype(np.int64))) if before else 0
        self.text = self._decoded(len(ids) - before)

    def before(self, at: int) -> int:
        """Count the tokens that end at a character or before it."""
        return self._first(lambda size: size > at) - 1

    def after(self, at: int) -> int:
        """Count the tokens that begin before a character."""
        return self._first(lambda size: size >= at)

    def _first(self, is_there: Callable[[int], bool]) -> int:
        """Search the fewest tokens whose decoded length satisfies `is_there`; one more than there are tokens, if none
        do."""
        low, high = 0, len(self._ids) - self._before + 1
        while low < high:
            middle = (low + high) // 2
            if is_there(self._size(middle)):
                high = middle
            else:
                low = middle + 1
        return low

    def _size(self, tokens: int) -> int:
        if tokens > len(self._ids) - self._before:
            return len(self.text) + 1
        text = self._decoded(tokens)
        # A character that is not whole yet is not there.
        return len(text) - (text.endswith("\ufffd") and not self.text.startswith(text))

    def _decoded(self, tokens: int) -> str:
        return self._encoder.decode(ids=self._ids[: self._before + tokens].astype(np.int64))[self._lead :]
