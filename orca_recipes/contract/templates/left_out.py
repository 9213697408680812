"""Kinds of things that a chat template never prints: a row with some is refused for that, whatever else is amiss."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.chat_template import ChatTemplate, Refused
from orca_recipes.contract.templates.dialogues import Dialogue, Message, calls_of
from orca_recipes.contract.templates.told_messages import as_told
from orca_recipes.errors import TemplateError

_TOOL, _FUNCTION, _VALUE, _REPLY = "offered_words", "called_words", "value_words", "reply_words"
"""Words that no template prints of itself."""

_PARAMETERS = {"type": "object", "properties": {"key": {"type": "string", "description": "d"}}, "required": ["key"]}
_TOOLS = [{"type": "function", "function": {"name": _TOOL, "description": "d", "parameters": _PARAMETERS}}]
# Nine letters and digits: Mistral's templates refuse ids of calls of another length.
_CALL = {"id": "call00001", "type": "function", "function": {"name": _FUNCTION, "arguments": {"key": _VALUE}}}
_ASKED = {"role": "user", "content": "question_words"}
_REPLIED = {"role": "tool", "content": _REPLY, "tool_call_id": "call00001", "name": _FUNCTION}

_IGNORABLE = (["reasoning"], ["tools"])
"""What a row can do without, so that its answers still say what they did."""


class LeftOut:
    """A template, asked once for each kind of thing."""

    def __init__(self, template: ChatTemplate, rendering: Rendering) -> None:
        self._template = template
        self._rendering = rendering

    def reason(self, messages: Sequence[Message], dialogue: Dialogue) -> str | None:
        """Word the refusal of a conversation, naming all that no message of any row would be printed of; None where
        there is nothing such."""
        held = (
            ("reasoning", not self._rendering.reasoning and any(message.get("reasoning") for message in messages)),
            ("tools", bool(dialogue.tools) and not self._tools),
            ("tool_calls", any(map(calls_of, messages)) and not self._calls),
            ("role tool", any(message["role"] == "tool" for message in messages) and not self._replies),
        )
        lost = [name for name, is_lost in held if is_lost]
        if not lost:
            return None
        advice = ", or name the key in ignore_keys" if lost in _IGNORABLE else ""
        return f"{', '.join(lost)}: the chat template prints none; use another one{advice}"

    @cached_property
    def _tools(self) -> bool:
        system = {"role": "system", "content": "system_words"}
        return self._prints((_TOOL,), [[_ASKED], [system, _ASKED]], given=(_TOOLS,))

    @cached_property
    def _calls(self) -> bool:
        return self._prints((_FUNCTION, _VALUE), [[_ASKED, call] for call in _called()])

    @cached_property
    def _replies(self) -> bool:
        return self._prints((_REPLY,), [[_ASKED, call, _REPLIED] for call in _called()])

    def _prints(
        self,
        words: Sequence[str],
        conversations: Sequence[Sequence[Message]],
        given: Sequence[Sequence[Any]] = (_TOOLS, ()),
    ) -> bool:
        """Tell whether one of the words is printed of a conversation, asked or not; also where all are refused, since
        then the template's own words say more."""
        printed: list[str] = []
        for messages in conversations:
            told = [as_told(message, self._rendering) for message in messages]
            for tools in given:
                variables: Mapping[str, Any] = {"tools": list(tools)} if tools else {}
                for is_asked in (False, True):
                    try:
                        printed.append(self._template.render(told, generation_prompt=is_asked, variables=variables))
                    except (Refused, TemplateError):
                        continue
        return not printed or any(word in text for word in words for text in printed)


def _called() -> Iterator[Message]:
    for content in ("", "answer_words"):
        yield {"role": "assistant", "content": content, "tool_calls": json.dumps([_CALL])}
