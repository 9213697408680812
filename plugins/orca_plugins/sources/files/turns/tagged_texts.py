"""Calls and replies of tools that texts of messages hold between tags, as Hermes and Qwen write them.

`<tool_call>{...}</tool_call>` in an answer is a call, `<tool_response>...</tool_response>` in a user's or tool's turn a
reply. They become calls and tools' turns, which every chat template prints in its own manner. What a text says beside
them must have a place: words before calls are the answer's content; any others reject the row by name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orca_plugins.sources.files.columns import Tags, Wanted, shown
from orca_plugins.sources.files.json_rows.strict_json import BadRow, Digits
from orca_plugins.sources.files.turns.message_keys import (
    ASSISTANT,
    ROLE_KEYS,
    TEXT_KEYS,
    TOOL,
    holds,
    known,
    plain_role,
)
from orca_plugins.sources.files.turns.python_literals import json_of

_SAID_CHARS = 60
_EDGES = re.compile(r"\A\r?\n|\r?\n\Z")
"""The line break behind a tag that opens, and before the one that closes."""


def untagged(messages: Sequence[Any], wanted: Wanted) -> list[Any]:
    """Return messages with the calls and replies of their texts as calls and tools' turns.

    Raises: BadRow, naming the message.
    """
    assert wanted.tags is not None, "only shapes with tags come here"
    found: list[Any] = []
    for number, message in enumerate(messages, start=1):
        try:
            found += _untagged(message, wanted.tags, wanted)
        except BadRow as reason:
            raise BadRow(f"messages: message {number}: {reason}") from None
    return found


def _untagged(message: Any, tags: Tags, wanted: Wanted) -> Iterator[Any]:
    key = _text_key(message)
    named = next((message[name] for name in ROLE_KEYS if _is_text(message.get(name))), None) if key else None
    role = plain_role(named, wanted)
    pieces = _pieces(message[key], tags.call if role == ASSISTANT else tags.reply) if key is not None else []
    if role == ASSISTANT and key is not None and any(tag in message[key] for tag in tags.reply):
        raise BadRow(f"a {tags.reply[0]} in an answer, which would train the model to make up what a tool says")
    if role not in (ASSISTANT, TOOL, "user") or key is None or len(pieces) == 1:
        yield message
    elif role == ASSISTANT:
        yield _with_calls(message, key, pieces, tags.call)
    else:
        yield from _replies(message, key, pieces, tags.reply)


def _with_calls(
    message: Mapping[str, Any], key: str, pieces: Sequence[tuple[bool, str]], tag: tuple[str, str]
) -> dict[str, Any]:
    """Return an answer with its calls apart from its words."""
    said, *others = [text for is_inside, text in pieces if not is_inside]
    if any(text.strip() for text in others):
        raise BadRow(f"words behind a {tag[0]}, and calls stand behind what an answer says")
    if name := next((name for name in known().calls if holds(message.get(name))), None):
        raise BadRow(f'calls both in the text and under "{name}"')
    calls = [_call(text) for is_inside, text in pieces if is_inside]
    return {**message, key: said.rstrip(), "tool_calls": calls}


def _call(text: str) -> Any:
    try:
        call = json_of(text)
    except BadRow:
        said = text.strip()
        raise BadRow(
            f"a call that is no JSON ({shown(said if len(said) <= _SAID_CHARS else said[:_SAID_CHARS] + '...')})"
        ) from None
    if not isinstance(call, dict):
        raise BadRow("a call that is no object")
    if not holds(call):
        raise BadRow("a call without a name")
    return call


def _replies(
    message: Mapping[str, Any], key: str, pieces: Sequence[tuple[bool, str]], tag: tuple[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield a tool's turn for each reply in a text."""
    if any(text.strip() for is_inside, text in pieces if not is_inside):
        raise BadRow(f"words beside a {tag[0]}, and a tool's turn is its reply alone")
    role = next(name for name in ROLE_KEYS if _is_text(message.get(name)))
    for is_inside, text in pieces:
        if is_inside:
            yield {**message, role: TOOL, key: _EDGES.sub("", text)}


def _pieces(text: str, tag: tuple[str, str]) -> list[tuple[bool, str]]:
    """Part a text into pieces, in order, with whether each stands between tags; the first and the last never do.

    Raises: BadRow where a tag is not closed, or closed and not opened.
    """
    opening, closing = tag
    pieces: list[tuple[bool, str]] = []
    is_inside, start = False, 0
    for found in re.finditer(f"{re.escape(opening)}|{re.escape(closing)}", text):
        if (found.group() == opening) is is_inside:
            raise BadRow(f"a {shown(found.group())} {'inside of another' if is_inside else 'that closes nothing'}")
        pieces.append((is_inside, text[start : found.start()]))
        is_inside, start = not is_inside, found.end()
    if is_inside:
        raise BadRow(f"a {opening} that does not end")
    return [*pieces, (False, text[start:])]


def _text_key(message: Any) -> str | None:
    """Return the key of a message's text, None where it has none."""
    if not isinstance(message, dict):
        return None
    return next((name for name in TEXT_KEYS if _is_text(message.get(name))), None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Digits)
