"""Trained turns as text: what inference is given before an answer, and what the model must generate there.

The prompt is what the template prints of the messages before the answer, asked for one. The answer is what it prints of
the answer beyond the prompt, through the control token at which generation stops. Nothing is guessed: a conversation of
which the template leaves out something, or prints an answer otherwise than after its own prompt, is unfit, with the
reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.chat_template import ChatTemplate, Refused
from orca_recipes.contract.templates.dialogues import (
    NEVER_ENDS,
    Dialogue,
    Message,
    Unfit,
    calls_of,
    check_replies,
    leaves_of,
    name_of_tool,
    texts_of,
    thought_of,
)
from orca_recipes.contract.templates.left_out import LeftOut
from orca_recipes.contract.templates.printed_texts import (
    ends_alike,
    is_printed,
    print_each,
    shared_start,
    stand_in,
)
from orca_recipes.contract.templates.prompt_thoughts import EMPTY, OTHERWISE, Otherwise, PromptThoughts
from orca_recipes.contract.templates.told_messages import as_told, with_thought
from orca_recipes.contract.trained_parts import PartSpan, interleaved_spans, part_spans
from orca_recipes.errors import TemplateError

SWITCHES: Sequence[tuple[str, bool | str, bool | str]] = (
    ("enable_thinking", True, False),
    ("thinking", True, False),
    ("reasoning_effort", "high", "no_think"),
)
"""Variables by which templates are asked to think, with the values for it and against it."""


_OURS = frozenset(("messages", "tools", "add_generation_prompt", "self"))
"""Names of what templates are given beside variables, and jinja's own; a row's tools stand beside its messages, where
they are checked."""

_OWN_WORDS = 40
"""Characters of a prompt's end that are quoted at most."""

CLOSED = "reasoning: the chat template's prompt closes the thought that the answer brings"


class Closed(Unfit):
    """A conversation brings a thought behind a prompt that closes it."""


@dataclass(frozen=True)
class TurnText:
    """One trained answer: the text before it, which inference is given, and the answer with its end.

    place: of its message. number: which of the assistant's messages it is, from 1. parts: of the answer.
    """

    place: int
    number: int
    prompt: str
    answer: str
    parts: tuple[PartSpan, ...] = ()


class TurnWriter:
    """A template that is rendered a conversation at a time."""

    def __init__(self, template: ChatTemplate, rendering: Rendering, control: Collection[str], bos: str | None) -> None:
        self._template = template
        self._rendering = rendering
        self._bos = bos
        longest_first = sorted(control, key=lambda text: (-len(text), text))
        self.control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._open, self._close = rendering.marks
        self._thinks_in_control = self._open in control and self._close in control
        self._thoughts = PromptThoughts(rendering, self._closing())
        self._left_out = LeftOut(template, rendering)
        self._marks = re.compile("|".join(map(re.escape, rendering.marks)))

    def turns(self, dialogue: Dialogue) -> list[TurnText]:
        """Render the trained turns of a conversation, in order, each as inference would see it.

        Raises: Unfit.
        """
        messages = list(dialogue.messages)
        # A text with control tokens is refused, so a thought between them is taken out of it.
        if self._thinks_in_control or self._prints_marks_as_words:
            messages = [with_thought(message, self._rendering) for message in messages]
        trained = [at for at, one in enumerate(messages) if one["role"] == "assistant" and one.get("trained")]
        if not trained:
            raise Unfit("no message is trained")
        messages = messages[: trained[-1] + 1]
        self._check_texts(messages, dialogue)
        if ours := sorted(_OURS.intersection(dialogue.variables)):
            raise Unfit(f"chat_template_kwargs: {ours[0]} is no variable that a row may set")
        if lost := self._left_out.reason(messages, dialogue):
            raise Unfit(lost)
        told = [self.told(message) for message in messages]
        variables = {**dialogue.variables, **({"tools": list(dialogue.tools)} if dialogue.tools else {})}
        if self._rendering.history == "last":
            trained = trained[-1:]
        found, first = [], None
        for at in trained:
            asked = self._prompt(told[:at], variables)
            first = asked if first is None else first
            is_cut = dialogue.is_cut and at == trained[-1]
            found.append(self._turn(messages, told, at, variables, asked, is_cut=is_cut))
            self._check_context(messages[:at], told[:at], variables, found[-1].prompt)
        if dialogue.tools and first is not None:
            self._check_tools(told[: trained[0]], variables, first)
        return found

    def _turn(
        self,
        messages: Sequence[Message],
        told: Sequence[Message],
        place: int,
        variables: Mapping[str, Any],
        asked: str,
        *,
        is_cut: bool,
    ) -> TurnText:
        prompt = asked
        if self._bos and prompt.startswith(self._bos) != self._rendering.opens:
            raise Unfit("the chat template begins its prompt otherwise than those of other rows")
        whole = self._print(told[: place + 1], variables, asked=False)
        thought, said = thought_of(messages[place], self._open, self._close)
        if thought and self._thoughts.closes(prompt):
            raise Closed(CLOSED)
        closed = (
            None if thought or not self._thoughts.leaves_open(prompt) else self._closed(told[: place + 1], variables)
        )
        if closed is not None:
            prompt, answer = closed[0], self._ended(closed[1], is_cut=is_cut)
        else:
            try:
                prompt, answer = self._thoughts.parted(prompt, whole, thought)
            except Otherwise:
                prompt, answer = self._after_less(messages, told, place, variables, (prompt, whole), thought)
            answer = self._ended(answer, is_cut=is_cut)
            if not thought:
                prompt, answer = self._thoughts.without_empty(prompt, answer)
            if not prompt.startswith(asked):
                raise Unfit("reasoning: it has none, and the chat template has no prompt without a thought")
        self._check_answer(messages[place], thought, said, answer)
        number = sum(message["role"] == "assistant" for message in messages[: place + 1])
        return TurnText(place, number, prompt, answer, self._parts(messages[place], thought, said, answer))

    def _closing(self) -> str | None:
        """Find what a template prints between a thought and the words behind it; None where it prints no thought."""
        if not self._rendering.reasoning:
            return None
        answer = {"role": "assistant", "reasoning": "thought_words", "content": "answer_words"}
        try:
            told = [self.told(message) for message in ({"role": "user", "content": "question_words"}, answer)]
            printed = self._print(told, {}, asked=False)
        except Unfit:
            return None
        closing = printed.partition("thought_words")[2].partition("answer_words")[0]
        return closing if closing.strip() == self._close else None

    @cached_property
    def _prints_marks_as_words(self) -> bool:
        """Tell whether a template with a key for reasoning prints a thought within a content behind an empty one."""
        key = self._rendering.reasoning
        if key in ("", "content", "prompt"):
            return False
        content = f"{self._open}\nthought_words\n{self._close}\n\nanswer_words"
        asked = [{"role": "user", "content": "question_words"}, {"role": "assistant", "content": content}]
        try:
            printed = self._print([self.told(message) for message in asked], {}, asked=False)
        except Unfit:
            return False
        return printed.partition("question_words")[2].count(self._close) > 1

    def _parts(self, message: Message, thought: str, said: str, answer: str) -> tuple[PartSpan, ...]:
        calls, content = calls_of(message), (message.get("content") or "").strip()
        if self._interleaves(message) and content in answer:
            return interleaved_spans(answer, content=content, calls=calls, marks=self._rendering.marks)
        return part_spans(answer, thought=thought, said=said, calls=calls, closing=self._close, control=self.control)

    def _interleaves(self, message: Message) -> bool:
        """Tell whether several thoughts stand in a content, with words between them."""
        return not message.get("reasoning") and (message.get("content") or "").count(self._close) > 1

    def _after_less(
        self,
        messages: Sequence[Message],
        told: Sequence[Message],
        place: int,
        variables: Mapping[str, Any],
        printed: tuple[str, str],
        thought: str,
    ) -> tuple[str, str]:
        """Find prompt and answer by rendering the answer behind a history with fewer words.

        Some templates drop thoughts of earlier turns as soon as an answer follows (gpt-oss: those before a call), or
        the system message (Mistral Nemo), so that no prompt is what they print before the answer. Behind a history
        without them one is; its answer counts where the conversation itself ends alike.
        """
        prompt, whole = printed
        for history in self._with_less(messages[:place], told[:place]):
            bare = self._print(history, variables, asked=True)
            printed_bare = self._print([*history, told[place]], variables, asked=False)
            try:
                parted, answer = self._thoughts.parted(bare, printed_bare, thought)
            except Otherwise:
                continue
            opening, kept = shared_start(bare, printed_bare), shared_start(bare, parted)
            if whole.endswith(printed_bare[opening:]) and ends_alike(prompt, bare, messages[place - 1]):
                return prompt.removesuffix(bare[kept:]) + parted[kept:], answer
        raise Unfit(OTHERWISE + _ending(prompt[shared_start(prompt, whole) :]))

    def _with_less(self, messages: Sequence[Message], told: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """Yield the history without thoughts, then also without words before calls, then also without system
        messages."""
        for without in (
            ("thoughts",),
            ("thoughts", "words before calls"),
            ("thoughts", "words before calls", "system"),
        ):
            less = []
            for message, given in zip(messages, told, strict=True):
                if message["role"] == "assistant":
                    _, said = thought_of(message, self._open, self._close)
                    said = "" if "words before calls" in without and calls_of(message) else said
                    less.append(self.told({**message, "reasoning": None, "content": said}))
                elif message["role"] != "system" or "system" not in without:
                    less.append(given)
            yield less

    def _prompt(self, told: Sequence[Message], variables: Mapping[str, Any]) -> str:
        try:
            return self._print(told, variables, asked=True)
        except Unfit as unfit:
            if told:
                raise
            raise Unfit(
                f"{unfit} for an answer that begins a conversation; mark such answers with weight = 0"
            ) from None

    def _print(self, told: Sequence[Message], variables: Mapping[str, Any], *, asked: bool) -> str:
        try:
            return self._template.render(told, generation_prompt=asked, variables=variables)
        except (Refused, TemplateError) as fault:
            raise Unfit(f"the chat template refuses it ({fault})") from None

    def told(self, message: Message) -> Message:
        """Convert a message as `as_told` does. Raises: Unfit."""
        return as_told(message, self._rendering)

    def _ended(self, answer: str, *, is_cut: bool) -> str:
        """Return the answer through its end, or without an end where it is not finished."""
        known = self._rendering
        answer = answer.removesuffix(known.extra)
        if known.is_printed:
            answer = answer.rstrip()
            end = next((text for text in known.ends if answer.endswith(text)), None)
            if end is None:
                raise Unfit(f"the chat template does not end its answer by {known.ends[0]}")
            body = answer.removesuffix(end)
        else:
            body, end = answer, known.ends[0]
        if any(text in body for text in known.ends):
            raise Unfit("its answer holds the token that ends answers before its end")
        if is_cut:
            return body.removesuffix(known.lead) if known.is_printed else body
        return body + end if known.is_printed else body + known.lead + end

    def _closed(self, told: Sequence[Message], variables: Mapping[str, Any]) -> tuple[str, str] | None:
        """Render an answer without a thought behind the template's own prompt for that; None where it has none.

        Such a prompt closes a thought, or opens none (Gemma 4's behind the reply of a tool).
        """
        for name, _, off in SWITCHES:
            without = {**variables, name: off}
            try:
                prompt = self._print(told[:-1], without, asked=True)
            except Unfit:
                continue  # the template knows other values
            if self._thoughts.leaves_open(prompt):
                continue
            whole = self._print(told, without, asked=False)
            if whole.startswith(prompt):
                if self._rendering.empty_thought == "reject":
                    raise Unfit(EMPTY)
                return prompt, whole[len(prompt) :]
        return None

    def _check_answer(self, message: Message, thought: str, said: str, answer: str) -> None:
        """Check that whatever the answer holds is printed."""
        body = next((answer.removesuffix(end) for end in self._rendering.ends if answer.endswith(end)), answer)
        if not stand_in(self._words(message, said), answer):
            raise Unfit("the chat template does not print the answer's content word for word")
        if thought.strip() not in answer:
            raise Unfit(
                "reasoning: the chat template prints none of such an answer; use another one, or name the key in "
                "ignore_keys"
            )
        for call in calls_of(message):
            if not all(is_printed(text, answer) for text in leaves_of(call["function"])):
                raise Unfit("tool_calls: the chat template does not print all of a call")
        if not print_each(calls_of(message), answer):
            raise Unfit("tool_calls: the chat template does not print all of them")
        if not body.strip():
            raise Unfit("its answer is empty")
        if self._interleaves(message):
            if (message.get("content") or "").strip() not in answer:
                raise Unfit("content: it holds several thoughts, which the chat template prints otherwise")
        elif thought and body.count(self._close) - said.count(self._close) > 1:
            raise Unfit("reasoning: the chat template prints an empty thought before it")

    def _words(self, message: Message, said: str) -> list[str]:
        """Cut the content of an answer at the marks of thoughts, since a template may move or print anew what they
        hold."""
        content = message.get("content") or ""
        return [said] if message.get("reasoning") or self._close not in content else self._marks.split(content)

    def _check_context(
        self, messages: Sequence[Message], told: Sequence[Message], variables: Mapping[str, Any], prompt: str
    ) -> None:
        """Check that whatever inference is told stands in the prompt, but for thoughts of earlier turns."""
        for place, message in enumerate(messages):
            _, said = thought_of(message, self._open, self._close)
            if not is_printed(said.strip(), prompt) and not self._is_thought(messages, told, place, variables):
                raise Unfit(f"the chat template does not print a message of role {message['role']} word for word")
            if not all(is_printed(call["function"]["name"], prompt) for call in calls_of(message)):
                raise Unfit("tool_calls: the chat template does not print an earlier call")

    def _is_thought(
        self, messages: Sequence[Message], told: Sequence[Message], place: int, variables: Mapping[str, Any]
    ) -> bool:
        """Tell whether words before a call are a thought to the template: printed until an answer follows (gpt-oss)."""
        if not calls_of(messages[place]):
            return False
        for at in range(place + 1, len(messages)):
            if messages[at]["role"] == "assistant" and not calls_of(messages[at]):
                _, said = thought_of(messages[place], self._open, self._close)
                return is_printed(said.strip(), self._print(told[:at], variables, asked=True))
        return False

    def _check_tools(self, told: Sequence[Message], variables: Mapping[str, Any], prompt: str) -> None:
        """Check that the tools are printed in the first prompt: by name, and as a difference to that without them."""
        bare = {name: value for name, value in variables.items() if name != "tools"}
        for tool in variables["tools"]:
            if not is_printed(name_of_tool(tool), prompt):
                raise Unfit("tools: the chat template prints none")
        try:
            if self._template.render(told, generation_prompt=True, variables=bare) == prompt:
                raise Unfit("tools: the chat template prints none")
        except (Refused, TemplateError):
            return  # it prints nothing without tools

    def _check_texts(self, messages: Sequence[Message], dialogue: Dialogue) -> None:
        """Refuse a row's texts if one holds a control token's text, and thoughts that are left open."""
        for what, text in texts_of(messages, dialogue):
            if found := self.control.search(text):
                raise Unfit(f"{what}: it holds the text of the control token {found.group()}")
        check_replies(messages)
        for message in messages:
            content = message.get("content") or ""
            if message["role"] != "assistant" or self._open not in content or self._close in content:
                continue
            if self._rendering.reasoning or (message.get("trained") and content.lstrip().startswith(self._open)):
                raise Unfit(NEVER_ENDS)


def _ending(words: str) -> str:
    """Quote the end of a prompt that no history has, where it is short enough to be the template's own words."""
    return f", which ends in {json.dumps(words, ensure_ascii=False)}" if 0 < len(words) <= _OWN_WORDS else ""
