"""A chat template changed to print the reasoning of earlier turns, which it would leave out.

Such a template asks at each message whether its turn is still being answered, or cuts the thought out of a content.
That condition is looked for in the template's text and given one answer for all turns; nothing else changes. The change
is kept only if conversations of plain words show that an earlier turn is printed as it was when it was the last one,
and all that has no reasoning as before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.chat_template import ChatTemplate, Refused
from orca_recipes.errors import TemplateError

_BLOCKS = re.compile(r"\{%[-+]?\s*(?:el)?if\s+(.+?)\s*[-+]?%\}", re.DOTALL)
_WITHIN = re.compile(r"\sif\s+((?:(?!\sif\s|%\}|\}\}).)+?)\s+else\s", re.DOTALL)
_OPERANDS = re.compile(r"\s+(?:and|or)\s+")
# How templates cut a thought out: content.split('</think>')[-1].
_CUT_OUT = re.compile(r"""\.split\(\s*(["'])[^"']*\1\s*\)\s*\[\s*-1\s*\]""")
# Each pair renders the template anew, and pairs grow with the square of the places: a long template would take minutes.
_MOST_PAIRS = 200

_ASKED, _AGAIN = {"role": "user", "content": "first_words"}, {"role": "user", "content": "second_words"}
_SAID, _THOUGHT = "said_words", "thought_words"
_TOOL = {"role": "tool", "content": "tool_words"}

Making = Callable[[str], ChatTemplate]
Messages = Sequence[Mapping[str, Any]]


def keeping_history(text: str, make: Making, rendering: Rendering) -> str:
    """Change the text of a template so that it prints earlier turns with their reasoning.

    Args:
        make: builds a template from a text. rendering: of the template as it is.
    Raises: TemplateError where no change of one or two of its conditions does that.
    """
    probe = _Probe(make(text), rendering)
    if not rendering.reasoning or probe.is_kept(make(text)):
        return text
    moving = []
    for begin, stop, words in _changes(text):
        changed = text[:begin] + words + text[stop:]
        template = _made(changed, make)
        if template is None:
            continue
        if probe.is_kept(template):
            return changed
        if probe.is_moved(template):
            moving.append((begin, stop, words))
    pairs = [(one, two) for at, one in enumerate(moving) for two in moving[at + 1 :] if one[1] <= two[0]]
    for (begin, stop, words), (later, end, others) in pairs[:_MOST_PAIRS]:
        changed = text[:begin] + words + text[stop:later] + others + text[end:]
        template = _made(changed, make)
        if template is not None and probe.is_kept(template):
            return changed
    raise TemplateError(
        "template.history: the chat template prints earlier turns without their reasoning, and no change of one or two "
        'of its conditions makes it keep that; use history = "inference" or "last"'
    )


class _Probe:
    """Conversations that show whether a template keeps history."""

    def __init__(self, template: ChatTemplate, rendering: Rendering) -> None:
        opening, closing = rendering.marks
        key = rendering.reasoning
        inline = f"{opening}\n{_THOUGHT}\n{closing}\n\n{_SAID}"
        self._thinking: dict[str, Any] = {"role": "assistant", "content": _SAID, key: _THOUGHT}
        if key in ("content", "prompt"):
            self._thinking = {"role": "assistant", "content": inline}
        said = {"role": "assistant", "content": _SAID}
        system = {"role": "system", "content": "system_words"}
        plain: list[Messages] = [[_ASKED, said], [_ASKED, said, _AGAIN], [_ASKED, said, _AGAIN, said]]
        plain += [[system, *messages] for messages in plain]
        plain += [[_ASKED, said, _TOOL, said, _AGAIN]]
        # What a last turn prints stays, unless it lacks its thought.
        last = [_ASKED, self._thinking]
        if _THOUGHT in _printed(template, last, asked=False):
            plain.append(last)
        self._same = [(messages, asked) for messages in plain for asked in (False, True)]
        self._before = [_printed(template, *one) for one in self._same]
        self._moved = _printed(template, [*last, _AGAIN], asked=True)

    def is_moved(self, template: ChatTemplate) -> bool:
        """Tell whether history is printed otherwise than by the template as it is."""
        return _printed(template, [_ASKED, self._thinking, _AGAIN], asked=True) != self._moved

    def is_kept(self, template: ChatTemplate) -> bool:
        """Tell whether an earlier turn is printed as it was when it was the last, and all else as before."""
        last = _printed(template, [_ASKED, self._thinking], asked=False)
        if last.count(_THOUGHT) != 1 or last.count(_SAID) != 1:
            return False
        turn = last.partition(_SAID)[0] + _SAID
        for later in ([_AGAIN], [_AGAIN, self._thinking, _AGAIN]):
            if not _printed(template, [_ASKED, self._thinking, *later], asked=True).startswith(turn):
                return False
        return [_printed(template, *one) for one in self._same] == self._before


def _changes(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield places of a template's text, each with what may stand there instead."""
    spans = [match.span(1) for pattern in (_BLOCKS, _WITHIN) for match in pattern.finditer(text)]
    for begin, stop in spans:
        parts = [begin, *(begin + bound for match in _OPERANDS.finditer(text[begin:stop]) for bound in match.span())]
        parts.append(stop)
        operands = list(zip(parts[::2], parts[1::2], strict=True))
        for first, last in dict.fromkeys([*operands, (begin, stop)]):
            for words in ("true", "false"):
                yield first, last, words
    for match in _CUT_OUT.finditer(text):
        yield *match.span(), ""


def _made(text: str, make: Making) -> ChatTemplate | None:
    try:
        return make(text)
    except TemplateError:
        return None


def _printed(template: ChatTemplate, messages: Messages, asked: bool) -> str:
    """Render messages; where the template refuses them, return its own words."""
    try:
        return template.render(messages, generation_prompt=asked)
    # What a template refuses, the changed one must refuse in the same words.
    except (Refused, TemplateError) as refusal:
        return f"refused: {refusal}"
