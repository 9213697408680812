"""The prompt check of `verify`, made before anything is stored: prompts of a build against those of inference.

Looked at are a keyed sample of a stage's conversations, and every one whose text holds what the template itself prints
or looks for. Such a text is the row's own: where it makes the prompt another one, the row is rejected. Any other row on
which training and inference part stands for all that were not looked at, so that the build is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import draw_keys
from orca_recipes.contract.ending import ending_of
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup, assemble_text
from orca_recipes.contract.templates.chat_template import Refused
from orca_recipes.errors import TemplateError
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.run.renderers.prompts import PromptCheck, PromptChecker, prompt_spans
from orca_recipes.run.segments.ragged import ragged
from orca_recipes.run.segments.rendered_segments import Rendered
from orca_recipes.run.segments.trained_text import trained_texts
from orca_recipes.shards.layout import is_trained
from orca_recipes.shards.segments import Segments
from orca_recipes.store.arrow_files import indices

if TYPE_CHECKING:
    import pyarrow as pa

PROMPTS_CHECKED = 256
"""About how many conversations of a stage are looked at, drawn by key, beside those whose text is telling."""

# The place where two texts part is what helps: whole conversations would bury it.
_SHOWN = 60
_MARKED = "its text makes the chat template print another prompt than the one that is trained"


@dataclass(frozen=True)
class Tried:
    """The number of conversations checked (without those checked ahead), and the reasons of untrainable ones, by
    position."""

    checked: int
    reasons: dict[int, str]


class PromptTrial:
    """A student, ready to try conversations that were rendered with it."""

    def __init__(self, markup: Markup, encoder: Encoder, tokenizer: Path) -> None:
        """tokenizer: the tokenizer.json that will be shipped."""
        self._markup = markup
        self._encoder = encoder
        self._ending = ending_of(markup, encoder)
        named = self._ending.named(encoder.vocabulary)
        self._inference = Inference(tokenizer, markup.chat_template, named)
        self._checker = PromptChecker(encoder, self._inference)
        self._control = sorted(encoder.vocabulary.control)

    def look(self, conversations: pa.Table, rendered: Rendered, *, of: int) -> Tried:
        """Look at the conversations of a part.

        Args:
            conversations: columns of `frames.CONVERSATIONS`. rendered: made of them. of: conversations of the stage.
        Raises: TemplateError where one whose text is nothing out of the way is not trained as inference would see it.
        """
        given = np.diff(rendered.segment_starts) > 0
        chosen = np.flatnonzero(given & (rendered.marked | sampled(conversations, ahead(of))))
        if not len(chosen):
            return Tried(0, {})
        messages = conversations["messages"].take(indices(chosen)).to_pylist()
        told = {int(position): _plain(one) for position, one in zip(chosen, messages, strict=True)}
        found = self._in_tokens(rendered, chosen[rendered.marked[chosen]])
        pieces: list[_Piece] = []
        for position, conversation in told.items():
            try:
                pieces += self._pieces(position, conversation, rendered)
            except _Parted as parted:
                found[position] = str(parted)
        for piece, ids in zip(pieces, self._inference.ids([piece.text for piece in pieces]), strict=True):
            if ids != piece.ids:
                # The first difference of a conversation explains those behind it.
                found.setdefault(piece.position, self._other_ids(piece.ids, ids))
        for position in sorted(found):
            # Nothing in its text explains the difference, so that it may hold for all rows that were not looked at.
            if not rendered.marked[position]:
                raise TemplateError(_refusal(conversations, position, found[position]))
        # More were looked at than the sample (see `ahead`); only the sample is counted, so that the number is the same
        # wherever rows come from.
        counted = given & (rendered.marked | sampled(conversations, of))
        return Tried(int(counted.sum()), dict.fromkeys(found, _MARKED))

    def _pieces(self, position: int, told: _Told, rendered: Rendered) -> Iterator[_Piece]:
        """Yield the text before each answer with its ids in the training tokens.

        From the end of the trained answer before, because ids of what a model printed are not those of its text. A
        content that spells a control token would be one for inference: there the text is all that can be compared.
        Raises: _Parted where inference would be given another text.
        """
        texts, ended = [], 0
        for place in told.answers:
            text = self._prompt(told.messages[:place])
            texts.append(text[ended:])
            answered = assemble_text(self._markup, told.messages[: place + 1])
            ended = len(answered) - len(self._ending.token)
        spans = _spans(rendered, position)
        # Answers that touch each other leave no span between them: texts and spans would be paired wrongly.
        if len(spans) == len(texts) and not self._spells_control(told):
            for text, (start, stop) in zip(texts, spans, strict=True):
                yield _Piece(position, text, rendered.tokens[start:stop].tolist())

    def _prompt(self, before: Sequence[Mapping[str, str]]) -> str:
        """Render the prompt of inference, and check that it equals the prompt before the trained answer."""
        try:
            theirs = self._inference.prompt(before)
        except Refused as refusal:
            raise _Parted(f"the chat template refuses it ({refusal})") from None
        ours = assemble_text(self._markup, before, generation_prompt=True)
        if theirs != ours:
            raise _Parted(_difference(ours, theirs))
        return theirs

    def _spells_control(self, told: _Told) -> bool:
        return any(text in message["content"] for message in told.messages for text in self._control)

    def _other_ids(self, ours: Sequence[int], theirs: Sequence[int]) -> str:
        texts = [self._encoder.decode(ids=np.array(ids, dtype=np.int64)) for ids in (ours, theirs)]
        if texts[0] != texts[1]:
            return _difference(*texts)
        return "inference would see other tokens of the same text before an answer"

    def _in_tokens(self, rendered: Rendered, chosen: np.ndarray) -> dict[int, str]:
        """Check the tokens of chosen conversations as `verify` would; return the faults by position."""
        starts, sizes = rendered.segment_starts[chosen], np.diff(rendered.segment_starts)[chosen]
        source = ragged(starts, sizes)
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        segments = Segments(rendered.segment_lengths[source], rendered.segment_modes[source], bounds)
        tokens = rendered.tokens[ragged(rendered.example_starts[chosen], np.diff(rendered.example_starts)[chosen])]
        check = PromptCheck()
        for example in range(len(chosen)):
            self._checker.check(tokens, segments, example, check)
        texts = trained_texts(
            tokens=tokens,
            lengths=segments.lengths,
            modes=segments.modes,
            example_starts=segments.example_bounds,
            encoder=self._encoder,
        )
        wrong = dict(check.faults)
        promised = rendered.trained_texts.take(indices(chosen))
        for at, (read, given) in enumerate(zip(texts.to_pylist(), promised.to_pylist(), strict=True)):
            if read != given:
                wrong.setdefault(at, "its trained tokens do not say what was to be trained")
        return {int(chosen[at]): said for at, said in wrong.items()}


class _Parted(Exception):
    """Inference would be given another text than what is trained on before an answer."""


@dataclass(frozen=True)
class _Told:
    """A conversation as inference is given it, and the places of its trained answers."""

    messages: Sequence[Mapping[str, str]]
    answers: Sequence[int]


@dataclass(frozen=True)
class _Piece:
    """Some text before an answer, and the ids that stand for it in the build."""

    position: int
    text: str
    ids: list[int]


def _plain(messages: Sequence[Mapping[str, Any]]) -> _Told:
    told = [{"role": message["role"], "content": message["content"] or ""} for message in messages]
    answers = [place for place, message in enumerate(messages) if message["trained"] and message["role"] == "assistant"]
    return _Told(told, answers)


def _spans(rendered: Rendered, position: int) -> list[tuple[int, int]]:
    """List the spans of tokens before each trained answer: each from the last token of the trained answer before."""
    first, last = rendered.segment_starts[position : position + 2]
    start = int(rendered.example_starts[position])
    ends = np.cumsum(rendered.segment_lengths[first:last]).tolist()
    return [
        (start + begin, start + stop)
        for begin, stop in prompt_spans(ends, is_trained(rendered.segment_modes[first:last]))
    ]


def ahead(of: int) -> int:
    """Return four fifths of a stage's size: its larger sample then covers that of a stage with one more filter."""
    return of - of // 5


def sampled(conversations: pa.Table, of: int) -> np.ndarray:
    """Return bool [conversations]: those that are looked at whatever they hold, of so many of a stage."""
    hi, lo = (np.asarray(conversations[name]) for name in ("id_hi", "id_lo"))
    if of <= PROMPTS_CHECKED:
        return np.ones(len(hi), dtype=bool)
    # Not the recipe's seed, so that another one looks at the same conversations.
    keys = draw_keys(id_hi=hi, id_lo=lo, seed=0, purpose="build prompts")
    return np.asarray(keys < np.uint64(PROMPTS_CHECKED * 2**64 // of))


def _difference(ours: str, theirs: str) -> str:
    parting = (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    start = max(0, next(parting, min(len(ours), len(theirs))) - _SHOWN // 2)
    shown = (repr(text[start : start + _SHOWN]) for text in (theirs, ours))
    return "inference would see {} before an answer, where training has {}".format(*shown)


def _refusal(conversations: pa.Table, position: int, said: str) -> str:
    file, place = (conversations[name][position].as_py() for name in ("file", "place"))
    return (
        f"{file}:{place}: a build would train what inference does not see: {said}; this may hold for rows that were "
        "not looked at, so that nothing is built: set render_each = true in a [template] of kind from_tokenizer, which "
        "rejects such rows by name, use another kind (chatml or plain), or mend the template"
    )
