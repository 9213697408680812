"""Thoughts where a prompt ends and an answer begins: a prompt may open one, close one, or leave it to the answer.

What the prompt supplies is never trained. Where history prints an earlier answer otherwise than its own prompt began
it, the answer is put behind that prompt as the model would have gone on.
"""

from __future__ import annotations

import re

from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.dialogues import Unfit
from orca_recipes.contract.templates.printed_texts import behind, shared_start

EMPTY = "reasoning: it has none, where the chat template prints an empty thought"
OTHERWISE = "the chat template prints the answer otherwise than after its own prompt"


class Otherwise(Unfit):
    """A conversation's own prompt is not what stands before its answer."""


class PromptThoughts:
    """The marks of a template's thoughts, looked for where its prompts end."""

    def __init__(self, rendering: Rendering, closing: str | None = None) -> None:
        """closing: what the template prints between a thought and the words behind it, where it is known."""
        self._rendering, self._closed_by = rendering, closing
        self._open, self._close = rendering.marks
        opening, closing = map(re.escape, rendering.marks)
        self._opened = re.compile(rf"{opening}(\s*)\Z")
        self._opens = re.compile(rf"\s*{opening}\s*")
        self._closing = re.compile(rf"(?:{opening}\s*)?{closing}\s*\Z")
        self._empty = re.compile(rf"\s*{opening}\s*{closing}\n{{0,2}}")
        self._empty_rest = re.compile(rf"\s*{closing}\n{{0,2}}")

    def closes(self, prompt: str) -> re.Match[str] | None:
        """Find the end of a thought at the end of a prompt, with its beginning where nothing stands between."""
        if not prompt.rstrip().endswith(self._close):
            return None
        at = prompt.rindex(self._close)
        return self._closing.search(prompt, max(prompt.rfind(self._open, 0, at), 0) if self._open in prompt else at)

    def leaves_open(self, prompt: str) -> re.Match[str] | None:
        """Find the beginning of a thought at the end of a prompt."""
        ends = prompt.rstrip().endswith(self._open)
        return self._opened.search(prompt, prompt.rindex(self._open)) if ends else None

    def parted(self, prompt: str, whole: str, thought: str) -> tuple[str, str]:
        """Split the text of a whole conversation into the prompt and the answer beyond it.

        Raises: Otherwise where the prompt is not what stands before the answer; Unfit.
        """
        closed, opened = self.closes(prompt), self.leaves_open(prompt)
        if whole.startswith(prompt):
            rest = whole[len(prompt) :]
            if not thought or opened is None or not self._empty_rest.match(rest):
                return prompt, rest
            # History has an empty thought in its place (DeepSeek V3.1's, EXAONE 4's).
            line = "\n" if "\n" in opened.group(1) and not rest.startswith("\n") else ""
            return prompt, f"{thought}{line}{rest}"
        found = closed or opened
        if found is None:
            return prompt, self._continued(prompt, whole, thought)
        if not whole.startswith(prompt[: found.start()]):
            raise Otherwise(OTHERWISE)
        rest = whole[found.start() :]
        empty = self._empty.match(rest) or self._empty_rest.match(rest)
        if not thought and empty is not None:
            if closed:
                return prompt, rest[empty.end() :]
            if self._rendering.empty_thought == "reject":
                raise Unfit(EMPTY)
            return prompt[: found.start()] + empty.group(), rest[empty.end() :]
        again = self._opens.match(rest)
        if opened and again and thought and rest[again.end() :].startswith(thought.strip()):
            return prompt, rest[again.end() :]
        if rest.lstrip().startswith((self._open, self._close)):
            raise Unfit("reasoning: the chat template prints the answer's thought otherwise than its prompt begins it")
        if opened is None:
            return prompt, rest
        line = "\n" if "\n" in opened.group(1) else ""
        closing = self._closed_by or f"{line}{self._close}{line * 2}"
        # A template that cuts a thought out of a content leaves the empty lines behind it.
        said = rest.lstrip("\n")
        return prompt, f"{thought}{closing}{said}"

    def _continued(self, prompt: str, whole: str, thought: str) -> str:
        """Return the text after a prompt that ends in words of its own, if the answer's thought can follow them, or in
        white space that no history has there.

        Words that history prints, too, with other white space between them (Llama 4's in vLLM) are followed by the
        answer as history has it.
        """
        same = shared_start(prompt, whole)
        rest, words = whole[same:], prompt[same:].strip()
        followed = behind(prompt[same:], rest)
        if followed is not None:
            return followed
        if not words:
            return rest
        # Words that stand behind the thought, too, are what closes it.
        if not thought or not rest.startswith(thought.strip()) or words in rest:
            raise Otherwise(OTHERWISE)
        return rest

    def without_empty(self, prompt: str, answer: str) -> tuple[str, str]:
        """Move the empty thought that the template prints before an answer without one to the prompt. Raises: Unfit."""
        opened = self.leaves_open(prompt)
        empty = (self._empty_rest if opened else self._empty).match(answer)
        if empty is None:
            if opened:
                raise Unfit("reasoning: it has none, and the chat template's prompt begins a thought")
            return prompt, answer
        if self._rendering.empty_thought == "reject":
            raise Unfit(EMPTY)
        return prompt + empty.group(), answer[empty.end() :]
