"""Calls of tools, tools and variables of the chat template, converted from JSON values.

Each is converted to the one form that templates are given: calls and tools as OpenAI writes them, arguments as objects
with their keys in the order of the file. Null fields of Arrow's structs are left out: a struct has the fields of all
rows, so a null means that the row has none.
"""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from orca_plugins.sources.files.columns import Wanted, shown
from orca_plugins.sources.files.json_rows.strict_json import (
    BadRow,
    Digits,
    Doubled,
    Unlike,
    decode,
    like,
    nested_too_deep,
)
from orca_plugins.sources.files.turns.message_keys import holds, known, lost_of_message

_ARGUMENTS = ("arguments", "parameters")
_OF_CALLS, _OF_TOOLS, _OF_VARIABLES = "messages: tool_calls", "tools", "chat_template_kwargs"
_SAID_CHARS = 60


def calls_text(value: Any, wanted: Wanted) -> str:
    """Convert the calls of a message (one, a list, or their JSON text) to canonical JSON, as `frames.messages_type`
    says.

    Raises: BadRow.
    """
    found = _spelt(value, _OF_CALLS)
    calls = [_call(call, wanted) for call in (found if isinstance(found, list) else [found]) if call is not None]
    if not calls:
        raise BadRow(f"{_OF_CALLS}: there is no call")
    return _text(calls)


def tools_text(value: Any) -> str | None:
    """Convert the tools of a row, or their JSON text, to canonical JSON of OpenAI's list; None where it is empty.

    Raises: BadRow.
    """
    found = _spelt(value, _OF_TOOLS)
    tools = [_tool(tool) for tool in (found if isinstance(found, list) else [found]) if tool is not None]
    return _text(tools) if tools else None


def variables_text(value: Any) -> str | None:
    """Convert the chat template's variables that a row sets, or their JSON text, to canonical JSON of an object; None
    where it is empty.

    Raises: BadRow.
    """
    found = _spelt(value, _OF_VARIABLES)
    if not isinstance(found, dict):
        raise BadRow(f"{_OF_VARIABLES}: no object")
    return _text(found) if found else None


def value_text(value: Any, what: str) -> str:
    """Write a value as JSON, its keys in the order of the file. Raises: BadRow."""
    return _text(_plain(value, what))


def beside_text(ours: str, value: Any) -> str | None:
    """Convert a column beside messages (`frames.BESIDE_MESSAGES`) to its text; None where it holds nothing.

    Raises: BadRow.
    """
    if ours == "tools":
        return tools_text(value) if holds(value) else None
    # An empty value of a variable is a value.
    return variables_text(value) if holds(value) or (isinstance(value, Mapping) and value) else None


def without_nulls(value: Any) -> Any:
    """Convert a value of Arrow to one of JSON, leaving out null fields of structs."""
    if isinstance(value, Mapping):
        return like(value, {key: without_nulls(inner) for key, inner in value.items() if inner is not None})
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return {key: without_nulls(inner) for key, inner in value}  # a map
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _call(value: Any, wanted: Wanted) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow(f"{_OF_CALLS}: a call that is no object")
    function = value.get("function", value)
    if not isinstance(function, dict):
        raise BadRow(f"{_OF_CALLS}: a call whose function is no object")
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BadRow(f"{_OF_CALLS}: a call without a name")
    if value.get("type", "function") not in ("function", None):
        raise BadRow(f'{_OF_CALLS}: a call of type "{shown(str(value["type"]))}", and only functions are read')
    silent = known().harmless | wanted.ignored | {"id", "type", "function", "name", *_ARGUMENTS}
    beside = function if function is value else {**value, **function}
    if lost := [key for key, inner in beside.items() if key not in silent and holds(inner)]:
        raise BadRow(lost_of_message(lost, wanted))
    outer = None if function is value else value.get("name")
    if outer not in (None, "", name):
        raise BadRow(f'{_OF_CALLS}: a call of "{shown(name)}" that has another name beside it')
    call = {"type": "function", "function": {"name": name, "arguments": _arguments(name, [function, value])}}
    number = value.get("id")
    return call if number in (None, "") else {"id": str(number), **call}


def _arguments(name: str, holders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments of a call, parsed if they are text.

    Args:
        holders: the objects that may hold them, under one of several keys; empty ones count as nothing.
    """
    what = f'{_OF_CALLS}: the arguments of "{shown(name)}"'
    found: dict[str, Any] = {}
    for value in (holder[key] for holder in holders for key in _ARGUMENTS if holder.get(key) is not None):
        given = {} if isinstance(value, str) and not value.strip() else _spelt(value, what)
        if not isinstance(given, dict):
            raise BadRow(f"{what} are no object")
        if given and found and given != found:
            raise BadRow(f"{what} stand there twice, and differ")
        found = found or given
    return found


def _tool(value: Any) -> dict[str, Any]:
    """Convert a tool to OpenAI's format, adding the wrapper where it lacks one."""
    tool = _spelt(value, _OF_TOOLS)
    if not isinstance(tool, dict):
        raise BadRow(f"{_OF_TOOLS}: a tool that is no object")
    function = tool.get("function")
    if not isinstance(function, dict):
        function = {key: inner for key, inner in tool.items() if key != "type"}
        tool = {"type": "function", "function": function}
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BadRow(f"{_OF_TOOLS}: a tool without a name")
    return tool if "type" in tool else {"type": "function", **tool}


def _spelt(value: Any, what: str) -> Any:
    """Convert a value to Python's JSON types, parsing it first if it is text."""
    if isinstance(value, str) and not isinstance(value, Digits):
        if nested_too_deep(value.encode(errors="replace")):
            raise BadRow(f"{what}: brackets nested too deep")
        try:
            value = decode(value)
        except BadRow:
            said = shown(value if len(value) <= _SAID_CHARS else value[:_SAID_CHARS] + "...")
            raise BadRow(f"{what}: text that is no JSON ({said})") from None
    return _plain(value, what)


def _plain(value: Any, what: str) -> Any:
    """Convert the numbers in a value to Python numbers.

    Raises: BadRow for what JSON does not know, and for keys that are given twice.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Digits | int):
        return _integer(value, what)
    if isinstance(value, Unlike | float):
        number = float(value.spelling if isinstance(value, Unlike) else value)
        if not isfinite(number):
            raise BadRow(f"{what}: a number that JSON does not know")
        return number
    if isinstance(value, str):
        return _sound(value, what)
    if isinstance(value, Mapping):
        if isinstance(value, Doubled) and value.keys_twice:
            raise BadRow(f"{what}: a key given twice")
        return {_sound(key, what): _plain(inner, what) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(item, what) for item in value]
    raise BadRow(f"{what}: a value that JSON does not know")


def _integer(value: str | int, what: str) -> int:
    try:
        # int() refuses texts of more than 4,300 digits, so that nobody waits for their conversion.
        return int(value)
    except ValueError:
        raise BadRow(f"{what}: a number that is too large") from None


def _sound(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{what}: half of a surrogate pair") from None
    return text


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
