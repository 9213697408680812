"""Bring a message's calls of tools to the one form that conversations hold them in.

Servers write arguments as the text of JSON, rows as objects too; templates are given objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

NAMELESS = "a tool call that names no function"
NO_ARGUMENTS = "a tool call whose arguments are no JSON object"


def calls_told(calls: Any) -> str:
    """Write calls as `frames.messages_type` says: canonical JSON of a list of them.

    Args:
        calls: a list as OpenAI's servers write it; arguments are an object or the text of one.
    Raises: ValueError, with what is wrong, in a few words.
    """
    if not isinstance(calls, list) or not calls:
        raise ValueError(NAMELESS)
    text = json.dumps([_call(call) for call in calls], ensure_ascii=False)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def calls_as_sent(told: str) -> list[dict[str, Any]]:
    """Write calls as OpenAI's servers take them: arguments as the text of JSON."""
    return [_as_sent(call) for call in json.loads(told)]


def _as_sent(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
        raise ValueError(NAMELESS)
    told = {"type": "function", "function": {"name": name, "arguments": _arguments(function.get("arguments"))}}
    number = call.get("id")
    return told if number in (None, "") else {"id": str(number), **told}


def _arguments(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}", object_pairs_hook=_each_once, parse_constant=_unknown)
        except (ValueError, RecursionError):
            raise ValueError(NO_ARGUMENTS) from None
    if value is not None and not isinstance(value, dict):
        raise ValueError(NO_ARGUMENTS)
    return value or {}


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key is given twice")
    return table


def _unknown(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
