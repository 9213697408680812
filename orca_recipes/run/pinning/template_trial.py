"""Does this template, with this tokenizer, train what inference sees? Tried on generated conversations before a build.

The oracle is what the build ships, run by the libraries of inference: the jinja text rendered in its sandbox, the
tokenizer.json loaded by `tokenizers`. Ours must give its ids before every answer, train nothing before the answer, and
train the token that ends it. A template that fails is refused with the conversation that shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orca_recipes.contract.ending import ending_of
from orca_recipes.contract.frames import messages_type
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup, assemble_text
from orca_recipes.contract.templates.chat_template import Refused
from orca_recipes.errors import TemplateError, TokenizerError
from orca_recipes.run.pinning.trial_conversations import Conversation, conversations
from orca_recipes.run.pinning.turn_trial import turns_held
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.run.renderers.render import Renderer
from orca_recipes.run.segments.rendered_segments import Rendered
from orca_recipes.run.segments.trained_text import control_table, trained_texts
from orca_recipes.shards.layout import is_trained
from orca_recipes.store.arrow_files import keep_pandas_out

# The place where two texts part is what helps: whole conversations would bury it.
_SHOWN = 40


def conform(*, markup: Markup, encoder: Encoder, tokenizer: Path) -> str:
    """Try a template; return the verdict for the lock.

    Args:
        tokenizer: the tokenizer.json that will be shipped.
    Raises: TemplateError, with the case, where training and inference would part; TokenizerError where the tokenizer
        cannot encode an answer where the template puts it.
    """
    ending = ending_of(markup, encoder)
    inference = Inference(tokenizer, markup.chat_template, ending.named(encoder.vocabulary))
    trial = _Trial(markup, encoder, inference, ending.ids)
    tried = conversations(markup, encoder.vocabulary)
    if not tried and markup.rendering is None:
        raise TemplateError("the template has no conversation that ends in an answer, so nothing can be trained on")
    said = [f"{trial.run(tried)} conversations"] if tried else []
    if markup.rendering is not None:
        count, held = turns_held(markup, encoder, tokenizer)
        said.append(f"{held} of {count} dialogues rendered whole")
    return f"{' and '.join(said)}, all as inference sees them"


def reads_answers_anew(*, markup: Markup, encoder: Encoder, tokenizer: Path) -> bool:
    """Tell whether inference encodes a plain earlier answer to other tokens than the joints do.

    So it is where a prompt ends in a space that the answer's first word takes in, once both are read in one piece.
    """
    ending = ending_of(markup, encoder)
    inference = Inference(tokenizer, markup.chat_template, ending.named(encoder.vocabulary))
    trial = _Trial(markup, encoder, inference, ending.ids)
    for roles in (("user", "assistant") * 2, ("system", *("user", "assistant") * 2)):
        case = Conversation(
            tuple(
                {"role": role, "content": f"some words {place}", "trained": role == "assistant"}
                for place, role in enumerate(roles)
            )
        )
        rendered = trial.rendered([case])
        if rendered.reasons:
            continue
        tokens = _tokens_of(rendered, 0)
        *_, (begin, _) = tokens.answers(ending.ids)
        prompt = [{"role": one["role"], "content": one["content"]} for one in case.messages[:-1]]
        if inference.ids([inference.prompt(prompt)]) != [tokens.ids[:begin].tolist()]:
            return True
    return False


class _Trial:
    def __init__(self, markup: Markup, encoder: Encoder, inference: Inference, ending: tuple[int, ...]) -> None:
        self._markup = markup
        self._encoder = encoder
        self._inference = inference
        self._ending = ending
        # A regular expression takes the first alternative that fits, not the longest.
        longest_first = sorted(encoder.vocabulary.control, key=lambda text: (-len(text), text))
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._is_control = control_table(encoder)
        self._printed: dict[tuple[object, ...], str] = {}

    def run(self, tried: Sequence[Conversation]) -> int:
        """Count the conversations that passed. Raises: TemplateError with one that did not, a usual one if there is."""
        rendered = self.rendered(tried)
        self._check_texts(tried, rendered)
        checks: list[_Check] = []
        for place, conversation in enumerate(tried):
            checks += self._checks(conversation, _tokens_of(rendered, place), rendered.reasons.get(place))
        texts = list(dict.fromkeys(check.text for check in checks))
        expected = dict(zip(texts, self._inference.ids(texts), strict=True))
        faults = [(check.case, said) for check in checks if (said := self._differs(check, expected[check.text]))]
        if faults:
            raise TemplateError(_refusal(*faults[0]))
        return len({id(check.case) for check in checks})

    def rendered(self, tried: Sequence[Conversation]) -> Rendered:
        """Render as a build does: by the fast tokenizer, or by the reference if the fast one differs on a
        conversation."""
        import polars as pl

        # pyarrow would import pandas, if installed, which costs 0.2 to 0.3 s a process.
        keep_pandas_out()
        renderer = Renderer(markup=self._markup, encoder=self._encoder)
        messages = pl.Series([list(case.messages) for case in tried], dtype=messages_type()).to_arrow()
        cut = np.array([case.cut for case in tried])
        rendered = renderer.render(messages=messages, cut=cut, check=np.ones(len(tried), dtype=bool), exact=False)
        if len(rendered.disagreeing):
            rendered = renderer.render(messages=messages, cut=cut, check=cut, exact=True)
        return rendered

    def _check_texts(self, tried: Sequence[Conversation], rendered: Rendered) -> None:
        """Check that `verify` will read the trained texts back from the tokens unchanged. Raises: TokenizerError."""
        found = trained_texts(
            tokens=rendered.tokens,
            lengths=rendered.segment_lengths,
            modes=rendered.segment_modes,
            example_starts=rendered.example_starts,
            encoder=self._encoder,
        )
        for case, read, given in zip(tried, found.to_pylist(), rendered.trained_texts.to_pylist(), strict=True):
            if read != given:
                said = f"its trained tokens say {read.decode()[:_SHOWN]!r}, made from {given.decode()[:_SHOWN]!r}"
                raise TokenizerError(f"the tokenizer does not give back what it was given: for {case}: {said}")

    def _checks(self, case: Conversation, tokens: _Tokens, reason: str | None) -> Iterator[_Check]:
        """Yield the prompts of a conversation as text, each with the ids that we put in its place.

        From an answer's end on, because later ids are those of inference up to merges with a trained answer.
        """
        if (reason is None) != self._is_printable(case):
            said = "is printed" if reason is None else f"is refused ({reason})"
            raise TemplateError(_refusal(case, f"it {said} by a build, and its markup says otherwise"))
        if reason is not None:
            return
        answers, spans = case.answers, tokens.answers(self._ending)
        if len(spans) + (case.cut and len(spans) < len(answers)) != len(answers):
            raise TemplateError(_refusal(case, f"{len(spans)} spans are trained, where it has {len(answers)} answers"))
        begin = ended = 0
        for place, (start, stop) in zip(answers, spans, strict=False):
            try:
                prompt, text = self._told(case, place)
            except Refused:
                return
            self._check_end(case, tokens, stop, is_cut=case.cut and place == answers[-1])
            yield _Check(case, prompt[ended:], tokens.ids[begin:start])
            begin, ended = stop - 1, max(match.start() for match in self._control.finditer(text))

    def _is_printable(self, case: Conversation) -> bool:
        try:
            assemble_text(self._markup, case.messages)
        except TemplateError:
            return False
        return True

    def _told(self, case: Conversation, place: int) -> tuple[str, str]:
        """Print the prompt that inference gets before an answer, and the conversation up to the answer's end.

        Raises: TemplateError where jinja and markup print the answer in two ways; Refused where jinja prints nothing.
        """
        messages = case.innocent()
        text = assemble_text(self._markup, messages[: place + 1])
        prompt = self._print(messages[:place], generation_prompt=True)
        asked = assemble_text(self._markup, messages[:place], generation_prompt=True)
        if prompt != asked:
            at = _parting(prompt, asked)
            said = f"its jinja prints {prompt[at : at + _SHOWN]!r} before answer {place + 1} of the conversation"
            raise TemplateError(_refusal(case, f"{said}, where its markup has {asked[at : at + _SHOWN]!r}"))
        whole = self._print(messages[: place + 1], generation_prompt=False)
        if not whole.startswith(text):
            at = _parting(whole, text)
            said = f"its jinja prints {whole[at : at + _SHOWN]!r}, where its markup has {text[at : at + _SHOWN]!r}"
            if len(text) - at <= len(self._markup.terminator):
                said = f"its jinja does not end the answer by {self._markup.terminator!r}"
            raise TemplateError(_refusal(case, said))
        return prompt, text

    def _print(self, messages: Sequence[Mapping[str, Any]], *, generation_prompt: bool) -> str:
        """Render messages by jinja; conversations share beginnings, and each is rendered once.

        Raises: Refused where it prints nothing.
        """
        key = (generation_prompt, *((message["role"], message["content"]) for message in messages))
        if key not in self._printed:
            self._printed[key] = self._inference.template.render(messages, generation_prompt=generation_prompt)
        return self._printed[key]

    def _check_end(self, case: Conversation, tokens: _Tokens, stop: int, *, is_cut: bool) -> None:
        ended = tuple(tokens.ids[max(stop - len(self._ending), 0) : stop].tolist()) == self._ending
        if ended == is_cut:
            said = "an answer that is not finished is" if is_cut else "the answer is not"
            raise TemplateError(_refusal(case, f"{said} trained to end by {self._markup.terminator!r}"))

    def _differs(self, check: _Check, expected: list[int]) -> str | None:
        """Describe how our ids before an answer differ from those of inference; None if they are equal.

        Where a message holds a control token's text, inference itself would take it for the token; ours must have the
        control tokens of the same conversation without it.
        """
        ours = check.ids.tolist()
        if check.case.planted:
            ours, expected = (list(filter(self._is_control.item, ids)) for ids in (ours, expected))
        if ours == expected:
            return None
        at = _parting(ours, expected)
        training, inference = (self._encoder.decode(ids=np.array(ids[at:], dtype=np.int64)) for ids in (ours, expected))
        return f"inference would see {inference[:_SHOWN]!r} before the answer, where training has {training[:_SHOWN]!r}"


@dataclass(frozen=True)
class _Check:
    """Ids that must be those of a text; of a planted conversation, the text is that of its innocent twin."""

    case: Conversation
    text: str
    ids: np.ndarray


@dataclass(frozen=True)
class _Tokens:
    """One rendered example: ids and, for each, whether it is trained."""

    ids: np.ndarray
    trained: np.ndarray

    def answers(self, ending: tuple[int, ...]) -> list[tuple[int, int]]:
        """Find the starts and ends of trained answers; one may follow the end of another without a token between."""
        last = ending[-1]  # stands nowhere else in what is trained
        before = np.concatenate([[False], self.trained[:-1] & (self.ids[:-1] != last)])
        after = np.concatenate([self.trained[1:] & (self.ids[:-1] != last), [False]])
        starts, stops = np.flatnonzero(self.trained & ~before), np.flatnonzero(self.trained & ~after) + 1
        return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _tokens_of(rendered: Rendered, place: int) -> _Tokens:
    first, last = rendered.segment_starts[place : place + 2]
    start, stop = rendered.example_starts[place : place + 2]
    trained = np.repeat(is_trained(rendered.segment_modes[first:last]), rendered.segment_lengths[first:last])
    return _Tokens(rendered.tokens[start:stop].astype(np.int64), trained)


def _parting(one: Sequence[object], other: Sequence[object]) -> int:
    shared = min(len(one), len(other))
    return next((at for at in range(shared) if one[at] != other[at]), shared)


def _refusal(case: Conversation, said: str) -> str:
    return (
        f"the template cannot be trained on as inference would see it: for the conversation {case}: {said}; "
        "use another template kind (chatml or plain), or mend the template"
    )
