"""A message as JSON holds it, brought to the one plain type of `turn_columns`."""

from collections.abc import Mapping
from typing import Any

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.json_rows.strict_json import BadRow, Digits, Doubled, values_given
from orca_plugins.sources.files.turns.message_keys import (
    ASSISTANT,
    CALL,
    NOT_PARTS,
    PART_KEYS,
    PARTS,
    ROLE_KEYS,
    SAYS_ELSE,
    SAYS_YES,
    TEXT_KEYS,
    TOOL,
    calls_of,
    differing,
    flag_of_another,
    flags_disagree,
    flags_of,
    holds,
    known,
    lost_of_message,
    odd_flag,
    odd_part,
    plain_role,
    reasoning_of,
    said_by,
    silent_keys,
    texts_of,
)
from orca_plugins.sources.files.turns.tool_values import calls_text
from orca_recipes.contract.frames import BESIDE_CONTENT


def turn_of(value: Any, wanted: Wanted) -> dict[str, Any] | None:
    """Convert a message; a role or content that is missing or no text is null, which the table's own check finds.

    Raises: BadRow.
    """
    if not isinstance(value, dict):
        return None
    roles = {key: plain_role(_text(_get(value, key)), wanted) for key in ROLE_KEYS}
    contents = {key: _content(_get(value, key), wanted) for key in TEXT_KEYS}
    texts = {key: text for key, (text, _) in contents.items()}
    role, content = _first(roles.values()), _first(texts.values())
    spelt = content if role == CALL else None
    role = ASSISTANT if role == CALL else role
    train, flagged = _flags(value, role, wanted)
    silent = silent_keys(wanted) | {*PARTS, *flags_of(wanted)}
    beside, taken, misread = _beside(value, role, spelt, wanted)
    if beside["tool_calls"] is not None:
        content = "" if spelt is not None else content or ""
    fault = (
        _lost(value, silent | taken, wanted)
        or _first(differing(list(pair)) for pair in (roles, texts) if _differ(pair))
        or _first(odd for _, odd in contents.values())
        or flagged
        or misread
    )
    return {"role": role, "content": content, "train": train, "fault": fault, **beside}


def faulty_turn(reason: str) -> dict[str, Any]:
    """Return what stands in the place of messages that cannot be read."""
    return {"role": None, "content": None, "train": None, "fault": reason, **dict.fromkeys(BESIDE_CONTENT)}


def _beside(
    value: dict[str, Any], role: str | None, spelt: str | None, wanted: Wanted
) -> tuple[dict[str, str | None], frozenset[str], str | None]:
    """Read what a message holds beside its content, the keys read for it, and the fault.

    Args:
        spelt: the text of calls, where the message is such a text.
    """
    held = {name: text for name in texts_of(wanted) if (text := _carried(_get(value, name))) is not None}
    thoughts = {name: held.pop(name) for name in reasoning_of(wanted) if name in held and role == ASSISTANT}
    taken = {*thoughts, *(name for name in held if name in known().names or (role == TOOL and name in known().answers))}
    said = {name: held[name] for name in taken & {*held}}
    if role != TOOL:
        taken |= {*known().names} - wanted.ignored
    found: dict[str, str | None] = {
        "reasoning": _first(thoughts.values()),
        "tool_calls": None,
        "tool_call_id": _first(said.get(name) for name in known().answers),
        "name": _first(said.get(name) for name in known().names),
    }
    fault = differing(list(thoughts)) if _differ(thoughts) else None
    if role == ASSISTANT:
        calls = {name: _get(value, name) for name in calls_of(wanted) if holds(_get(value, name))}
        taken |= {*calls}
        try:
            found["tool_calls"], odd = called(calls, spelt, wanted)
        except BadRow as reason:
            odd = str(reason)
        fault = fault or odd
    return found, frozenset(taken), fault


def called(calls: Mapping[str, Any], spelt: str | None, wanted: Wanted) -> tuple[str | None, str | None]:
    """Read the calls of an assistant's message, under the keys that hold them or as its text spells them, and the
    fault.

    Raises: BadRow.
    """
    texts = {name: calls_text(value, wanted) for name, value in calls.items()}
    if spelt is not None:
        texts["content"] = calls_text(spelt, wanted)
    return _first(texts.values()), differing(list(texts)) if _differ(texts) else None


def _carried(value: Any) -> str | None:
    """Return a text that is carried, a number as its digits; None for blank text and anything else."""
    if isinstance(value, str) and holds(value):
        return sound("messages", str(value))
    return None


def sound(ours: str, text: str) -> str:
    """Return a text that can be written as UTF-8. Raises: BadRow for any other."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{ours}: half of a surrogate pair") from None
    return text


def value_under(record: dict[str, Any], ours: str, key: str) -> Any:
    """Return a record's value under a key. Raises: BadRow where the key is given twice."""
    if isinstance(record, Doubled) and key in record.keys_twice:
        raise BadRow(f"{ours}: a key given twice")
    return record.get(key)


def _get(value: dict[str, Any], key: str) -> Any:
    return value_under(value, "messages", key)


def _text(value: Any) -> str | None:
    return sound("messages", value) if isinstance(value, str) and not isinstance(value, Digits) else None


def _content(value: Any, wanted: Wanted) -> tuple[str | None, str | None]:
    """Read a content's text, and the fault of one in parts that cannot be read."""
    if not isinstance(value, list):
        return _text(value), None
    if not all(isinstance(part, dict) and _may_be_text(_get(part, "text")) for part in value):
        return None, NOT_PARTS if value else None
    for kind in (_get(part, "type") for part in value):
        if kind != "text":
            return None, odd_part(kind if isinstance(kind, str) else None)
    for part in value:
        if lost := _lost(part, silent_keys(wanted) | {*PART_KEYS}, wanted):
            return None, lost
    texts = [_text(part.get("text")) for part in value]
    return (None if None in texts or not texts else "".join(text or "" for text in texts)), None


def _may_be_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not isinstance(value, Digits))


def _flags(value: dict[str, Any], role: str | None, wanted: Wanted) -> tuple[bool | None, str | None]:
    """Read what a message's flags say of training, and their fault."""
    said = {flag: says for flag in flags_of(wanted) if (says := said_by(_get(value, flag))) is not None}
    odd = _first(flag for flag, says in said.items() if says == SAYS_ELSE)
    if odd is not None:
        return None, odd_flag(odd, wanted)
    if len(set(said.values())) > 1:
        return None, flags_disagree(list(said), wanted)
    train = SAYS_YES in said.values()
    if train and role != "assistant":
        return None, flag_of_another(next(iter(said)), wanted)
    return (train if said else None), None


def _lost(value: Mapping[str, Any], silent: frozenset[str], wanted: Wanted) -> str | None:
    lost = [key for key in value if key not in silent and any(map(holds, values_given(value, key)))]
    return lost_of_message(lost, wanted) if lost else None


def _first(values: Any) -> Any:
    """Return the first value that is not None."""
    return next((value for value in values if value is not None), None)


def _differ(pair: Mapping[str, str | None]) -> bool:
    return len({text for text in pair.values() if text is not None}) > 1
