"""What `verify` would find, looked for before anything is stored: prompts of a build against those of inference.

Looked at are a keyed sample of a stage's conversations, and every one whose text holds what the template itself prints
or looks for. Such a text is the row's own: where it makes the prompt another one, the row is rejected. Any other row on
which training and inference part stands for all that were not looked at, so that the build is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.chat_template import Refused
from orca_recipes.contract.draws import draw_keys
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup, assemble_text
from orca_recipes.errors import TemplateError
from orca_recipes.run.arrow import indices
from orca_recipes.run.ending import ending_of
from orca_recipes.run.inference import Inference
from orca_recipes.run.prompts import PromptCheck, PromptChecker
from orca_recipes.run.proof import trained_texts
from orca_recipes.run.ragged import ragged
from orca_recipes.run.rendered import Rendered
from orca_recipes.shards.segments import Segments

if TYPE_CHECKING:
    import pyarrow as pa

PROMPTS_CHECKED = 256
"""About how many conversations of a stage are looked at, drawn by key, beside those whose text is telling."""

_SHOWN = 60
_MARKED = "its text makes the chat template print another prompt than the one that is trained"


@dataclass(frozen=True)
class Tried:
    """How many conversations were looked at, and why some cannot be trained on, by position."""

    checked: int
    reasons: dict[int, str]


class PromptTrial:
    """A student, ready to try conversations that were rendered with it."""

    def __init__(self, markup: Markup, encoder: Encoder, tokenizer: Path) -> None:
        """tokenizer: the tokenizer.json that will be shipped."""
        named = ending_of(markup, encoder).named(encoder.vocabulary)
        self._markup = markup
        self._encoder = encoder
        self._inference = Inference(tokenizer, markup.chat_template, named)
        self._checker = PromptChecker(encoder, self._inference)

    def look(self, conversations: pa.Table, rendered: Rendered, *, of: int) -> Tried:
        """Look at the conversations of a part.

        Args:
            conversations: columns of `frames.CONVERSATIONS`. rendered: made of them. of: conversations of the stage.
        Raises: TemplateError where one whose text is nothing out of the way is not trained as inference would see it.
        """
        given = np.diff(rendered.segment_starts) > 0
        chosen = np.flatnonzero(given & (rendered.marked | _sample(conversations, of)))
        if not len(chosen):
            return Tried(0, {})
        messages = conversations["messages"].take(indices(chosen)).to_pylist()
        found = self._in_tokens(rendered, chosen)
        reasons: dict[int, str] = {}
        for at, (position, told) in enumerate(zip(chosen.tolist(), messages, strict=True)):
            said = self._in_text(told) or found.get(at)
            if said is not None and not rendered.marked[position]:
                raise TemplateError(_refusal(conversations, position, said))
            if said is not None:
                reasons[position] = _MARKED
        return Tried(len(chosen), reasons)

    def _in_text(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        """How a prompt that inference would be given is another text than what is trained on before the answer."""
        given = [{"role": message["role"], "content": message["content"] or ""} for message in messages]
        for place, message in enumerate(messages):
            if not message["trained"] or message["role"] != "assistant":
                continue
            try:
                theirs = self._inference.prompt(given[:place])
            except Refused as refusal:
                return f"the chat template refuses it ({refusal})"
            ours = assemble_text(self._markup, given[:place], generation_prompt=True)
            if theirs != ours:
                return _difference(ours, theirs)
        return None

    def _in_tokens(self, rendered: Rendered, chosen: np.ndarray) -> dict[int, str]:
        """What `verify` finds in the tokens of chosen conversations, by their place among the chosen."""
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
                wrong.setdefault(at, f"its trained tokens say {_shown(read)}, made from {_shown(given)}")
        return wrong


def _sample(conversations: pa.Table, of: int) -> np.ndarray:
    hi, lo = (np.asarray(conversations[name]) for name in ("id_hi", "id_lo"))
    if of <= PROMPTS_CHECKED:
        return np.ones(len(hi), dtype=bool)
    keys = draw_keys(id_hi=hi, id_lo=lo, seed=0, purpose="build prompts")
    return np.asarray(keys < np.uint64(PROMPTS_CHECKED * 2**64 // of))


def _difference(ours: str, theirs: str) -> str:
    parting = (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    start = max(0, next(parting, min(len(ours), len(theirs))) - _SHOWN // 2)
    shown = (repr(text[start : start + _SHOWN]) for text in (theirs, ours))
    return "inference would see {} before an answer, where training has {}".format(*shown)


def _shown(text: bytes) -> str:
    return repr(text.decode(errors="replace")[:_SHOWN])


def _refusal(conversations: pa.Table, position: int, said: str) -> str:
    file, place = (conversations[name][position].as_py() for name in ("file", "place"))
    return (
        f"{file}:{place}: a build would train what inference does not see: {said}; this may hold for every row, so "
        "that nothing is built: use another template kind (chatml or plain), or mend the template"
    )
