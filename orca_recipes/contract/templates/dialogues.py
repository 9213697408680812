"""Conversations as templates are given them: what their messages say, think and call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
NEVER_ENDS = "content: a thought begins and never ends"
"""Why an answer is not trained that would teach a model to think for ever."""


class Unfit(Exception):
    """A conversation cannot be trained on with this template; the reason groups well."""


@dataclass(frozen=True)
class Dialogue:
    """A conversation as it is stored.

    messages: `frames.MESSAGES`, as dicts; keys that are null or missing are none. tools: the definitions of tools.
    variables: of the template, by the row. is_cut: whether its last trained answer is not finished.
    """

    messages: Sequence[Message]
    tools: Sequence[Any] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    is_cut: bool = False

    def as_json(self) -> str:
        """Write canonical JSON, without what is null."""
        messages = [{key: value for key, value in message.items() if value is not None} for message in self.messages]
        told = {"messages": messages, "tools": list(self.tools), "variables": dict(self.variables)}
        return json.dumps({key: value for key, value in told.items() if value}, ensure_ascii=False)


def dialogue_of(text: str, *, is_cut: bool) -> Dialogue:
    """Read a dialogue back from `as_json`."""
    told = json.loads(text)
    return Dialogue(told["messages"], told.get("tools", ()), told.get("variables", {}), is_cut)


def parts_of(content: str) -> list[dict[str, str]]:
    """Convert a content to the list of parts that templates for pictures want."""
    return [{"type": "text", "text": content}] if content else []


def calls_of(message: Message) -> Sequence[Mapping[str, Any]]:
    """Parse the calls of a message; arguments are objects."""
    calls: Sequence[Mapping[str, Any]] = json.loads(message["tool_calls"]) if message.get("tool_calls") else ()
    return calls


def thought_of(message: Message, opening: str, closing: str) -> tuple[str, str]:
    """Part an answer into its thought, "" if it has none, and the words after it."""
    content = message.get("content") or ""
    if reasoning := message.get("reasoning"):
        return str(reasoning), content
    if message["role"] != "assistant" or closing not in content:
        return "", content
    thought, said = content.split(closing)[0].split(opening)[-1], content.split(closing)[-1]
    return thought.strip("\n") if thought.strip() else "", said


def texts_of(messages: Sequence[Message], dialogue: Dialogue) -> Iterator[tuple[str, str]]:
    """Yield each text of a dialogue with the key that it stands under."""
    for message in messages:
        for key in ("content", "reasoning", "name", "tool_call_id"):
            if message.get(key):
                yield key, str(message[key])
        for call in calls_of(message):
            yield from (("tool_calls", text) for text in leaves_of(call))
    yield from (("tools", text) for text in leaves_of(dialogue.tools))
    yield from (("template_kwargs", text) for text in leaves_of(dialogue.variables))


def leaves_of(value: Any) -> Iterator[str]:
    """Yield the texts of a JSON value, its keys included, except those of the schema of calls."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            # Templates print these keys' values and not the keys, so that nobody finds them in the text.
            if key not in ("name", "arguments", "function", "type", "id"):
                yield str(key)
            yield from leaves_of(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from leaves_of(inner)


def name_of_tool(tool: Any) -> str:
    """Return the name of a tool's function.

    Raises: Unfit where it has none.
    """
    function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise Unfit("tools: a tool has no name")
    return name


def check_replies(messages: Sequence[Message]) -> None:
    """Check that each tool's reply answers a call, where calls stand beside contents.

    One without an id answers the next call, and a call may be answered in several messages.
    Raises: Unfit.
    """
    if not any(map(calls_of, messages)):
        return
    waiting: list[Any] = []
    made: set[Any] = set()
    for message in messages:
        told = [call.get("id") for call in calls_of(message)]
        waiting += told
        made |= {*told} - {None}
        replied = message.get("tool_call_id")
        if message["role"] != "tool" or (replied in made and replied not in waiting):
            continue
        if replied is not None and replied not in made:
            raise Unfit("tool_call_id: a tool answers a call that no message before it makes")
        if not waiting:
            raise Unfit("role tool: a tool answers, and every call before it has its answer")
        waiting.remove(waiting[0] if replied is None else replied)
