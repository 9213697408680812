"""Messages in the keys and forms that one chat template reads: they differ in reasoning, arguments and contents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.dialogues import Message, Unfit, calls_of, parts_of


def as_told(message: Message, rendering: Rendering) -> Message:
    """Convert a message to the keys and form that the template reads.

    Raises: Unfit where it has reasoning that the template does not read.
    """
    opening, closing = rendering.marks
    told: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
    if reasoning := message.get("reasoning"):
        key = rendering.reasoning
        if not key:
            raise Unfit("reasoning: the chat template prints none")
        inline = f"{opening}\n{reasoning}\n{closing}\n\n{told['content']}"
        if key != "prompt":
            told[key] = inline if key == "content" else reasoning
    if calls := calls_of(message):
        if rendering.empty == "null" and not told["content"]:
            told["content"] = None
        told["tool_calls"] = [_call(call, rendering) for call in calls]
    told |= {key: message[key] for key in ("tool_call_id", "name") if message.get(key) is not None}
    if rendering.contents == "parts":
        told["content"] = parts_of(told["content"] or "")
    return told


def with_thought(message: Message, rendering: Rendering) -> Message:
    """Move a thought between marks from an answer's content to `reasoning`, where the template reads reasoning."""
    opening, closing = rendering.marks
    content = message.get("content") or ""
    if message["role"] != "assistant" or message.get("reasoning"):
        return message
    # What stands behind several thoughts is not one content: such answers are judged as they are written.
    if not content.lstrip().startswith(opening) or content.count(closing) != 1 or not rendering.reasoning:
        return message
    thought, _, said = content.partition(closing)
    return {**message, "reasoning": thought.partition(opening)[2].strip("\n"), "content": said.lstrip("\n")}


def _call(call: Mapping[str, Any], rendering: Rendering) -> Mapping[str, Any]:
    if rendering.arguments == "object":
        return call
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}
