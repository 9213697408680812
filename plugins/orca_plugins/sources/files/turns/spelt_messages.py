"""Conversations that are spelt in another manner than as a list of messages.

JSON text, a list of texts (a user's and an assistant's in turn), pairs of question and answer, one text with a mark
before each turn, items of a trajectory: all become messages before anything is looked at in them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orca_plugins.sources.files.columns import Wanted, shown
from orca_plugins.sources.files.json_rows.strict_json import (
    NESTING,
    BadRow,
    Digits,
    as_json,
    decode,
    nested_too_deep,
    once,
)
from orca_plugins.sources.files.turns.arrow_texts import values_or_faults
from orca_plugins.sources.files.turns.items_as_messages import messages_of_items
from orca_plugins.sources.files.turns.message_keys import ASSISTANT, flags_of, holds
from orca_plugins.sources.files.turns.tagged_texts import untagged
from orca_plugins.sources.files.turns.tool_values import without_nulls
from orca_plugins.sources.files.turns.turn_columns import turns_type
from orca_plugins.sources.files.turns.turn_values import faulty_turn, turn_of

if TYPE_CHECKING:
    import pyarrow as pa

_NO_LIST = "messages: text that spells no list of messages in JSON"
_QUOTED = re.compile(r":\s*'(?P<arguments>\s*\{.*\}\s*)'(?=\s*\}\s*$)", re.DOTALL)
"""Arguments of a call whose JSON stands in single quotes, which JSON does not know."""
_PAIR = ("user", ASSISTANT)
_END = "<|endoftext|>"
"""What answers of a text with marks end with, in most such data."""


def is_spelt(value: Any) -> bool:
    """Tell whether a JSON value may be a conversation in another form than a list of messages."""
    is_text = isinstance(value, str) and not isinstance(value, Digits)
    return is_text or (isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value))


def turns_spelt(value: Any, wanted: Wanted) -> list[dict[str, Any] | None]:
    """Convert a conversation in another form, as a JSON value, to messages.

    Raises: BadRow.
    """
    if isinstance(value, str) and not isinstance(value, Digits):
        value = list(_marked(value, wanted)) if wanted.marks else _of_json(value)
    if not isinstance(value, list):
        raise BadRow("messages: neither a list nor a text that spells one")
    if wanted.asks_last:
        value = [message for one in value for message in _said_before(one)]
    elif wanted.items:
        value = messages_of_items(value, wanted)
    elif value and all(isinstance(item, str) and not isinstance(item, Digits) for item in value):
        value = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(value)]
    elif wanted.pairs is not None:
        value = [message for pair in value for message in _parted(pair, *wanted.pairs, wanted)]
    if wanted.tags is not None:
        value = untagged(value, wanted)
    return [turn_of(message, wanted) for message in value]


def spelt_column(array: "pa.Array", wanted: Wanted) -> "pa.Array":
    """Convert a column of conversations in another form to lists of messages; an unreadable one becomes a message with
    its fault."""
    import pyarrow as pa

    if array.null_count == len(array):
        return pa.nulls(len(array), turns_type())
    values = values_or_faults(array)
    return pa.array([None if value is None else _read(value, wanted) for value in values], turns_type())


def _read(value: Any, wanted: Wanted) -> list[dict[str, Any] | None] | None:
    if wanted.asks_last and not holds(value):
        return None
    try:
        if isinstance(value, BadRow):
            raise value
        # A struct has the fields of all rows, so that a null means that the row has none.
        is_rewritten = wanted.rewrites_messages and wanted.pairs is None
        return turns_spelt(as_json(without_nulls(value) if is_rewritten else value), wanted)
    except BadRow as reason:
        return [faulty_turn(str(reason))]


def _of_json(text: str) -> Any:
    if nested_too_deep(text.encode(errors="replace")):
        raise BadRow(f"messages: text of JSON with brackets nested more than {NESTING} deep")
    try:
        found = decode(text)
    except BadRow:
        raise BadRow(_NO_LIST) from None
    if not isinstance(found, list):
        raise BadRow(_NO_LIST)
    return found


def _parted(pair: Any, question: str, answer: str, wanted: Wanted) -> Iterator[Any]:
    """Part a pair into two messages: its flags are those of its answer; what else it holds is kept with its question,
    where it is refused by name."""
    if not isinstance(pair, Mapping) or question not in pair or answer not in pair:
        yield pair
        return
    once(pair, "messages")
    flags = {key: pair[key] for key in flags_of(wanted) if key in pair and key not in (question, answer)}
    beside = {key: value for key, value in pair.items() if key not in (question, answer, *flags)}
    yield {**beside, "role": "user", "content": pair[question]}
    yield {**flags, "role": "assistant", "content": pair[answer]}


def _said_before(one: Any) -> Iterator[Any]:
    """Yield the messages of a piece of history: a question and its answer as texts, or a message.

    Raises: BadRow.
    """
    if isinstance(one, Mapping):
        yield one
        return
    if not isinstance(one, list) or len(one) != len(_PAIR) or not all(_is_text(text) for text in one):
        raise BadRow("messages: history that is neither pairs of question and answer nor messages")
    yield from ({"role": role, "content": text} for role, text in zip(_PAIR, one, strict=True))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Digits)


def _marked(text: str, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Yield the turns of a text with a mark before each.

    Raises: BadRow where something stands before the first, or where a mark may be text as well.
    """
    marks = wanted.marks
    # The longest first, or a mark that begins another would win over it.
    pattern = re.compile("|".join(rf"(?:^|(?<=\s)){re.escape(mark)}" for mark in sorted(marks, key=len, reverse=True)))
    found = list(pattern.finditer(text))
    if not found or text[: found[0].start()].strip():
        listed = ", ".join(shown(mark) for mark in marks)
        raise BadRow(f"messages: a text that does not begin with one of {listed}")
    on_lines = [mark for mark in found[1:] if not text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()].strip()]
    found = [found[0], *(on_lines or found[1:])]  # where marks begin lines, those inside of a line are text
    before, has_end = None, False
    for mark, end in zip(found, [*(mark.start() for mark in found[1:]), len(text)], strict=True):
        role, said = marks[mark.group()], text[mark.end() : end].strip()
        if before == role == "user":
            raise BadRow(f"messages: {shown(mark.group())} inside of a user's turn, which may be text or another turn")
        if before == ASSISTANT and role in (ASSISTANT, "user") and not has_end and _END in text:
            raise BadRow(f"messages: {shown(mark.group())} in an answer that did not end with {_END}, as others do")
        has_end = said.endswith(_END)
        said = said.removesuffix(_END).strip()
        if _END in said:
            raise BadRow(f"messages: a turn goes on behind {_END}")
        before = role
        yield {"role": role, **_with_call(said, wanted.calls_after)}


def _with_call(text: str, mark: str | None) -> dict[str, Any]:
    """Split a turn into its content and the call at its end."""
    said, is_call, spelt = text.partition(mark) if mark is not None else (text, "", "")
    if not is_call:
        return {"content": text}
    quoted = _QUOTED.search(spelt)
    if quoted is not None:
        # Inside single quotes apostrophes are escaped, which JSON does not allow.
        arguments = quoted["arguments"].replace("\\'", "'")
        spelt = f"{spelt[: quoted.start()]}: {arguments}{spelt[quoted.end() :]}"
    return {"content": said.strip(), "tool_calls": spelt.strip()}
