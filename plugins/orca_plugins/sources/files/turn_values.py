"""A message as JSON holds it, brought to the one plain type of `_files_turns`."""

from collections.abc import Mapping
from typing import Any

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.message_keys import (
    NOT_PARTS,
    PART_KEYS,
    PARTS,
    ROLE_KEYS,
    SAYS_ELSE,
    SAYS_YES,
    SEVERAL_PARTS,
    TEXT_KEYS,
    TOOL,
    differing,
    flag_of_another,
    flags_disagree,
    flags_of,
    holds,
    lost_of_message,
    names_of,
    odd_flag,
    odd_part,
    said_by,
    silent_keys,
)
from orca_plugins.sources.files.strict_json import BadRow, Digits, Doubled
from orca_plugins.sources.files.turn_columns import plain_role


def turn_of(value: Any, wanted: Wanted) -> dict[str, Any] | None:
    """A message; what is missing or no text is null, which the table's own check finds.

    Raises: BadRow.
    """
    if not isinstance(value, dict):
        return None
    roles = {key: plain_role(_text(_get(value, key))) for key in ROLE_KEYS}
    contents = {key: _content(_get(value, key), wanted) for key in TEXT_KEYS}
    texts = {key: text for key, (text, _) in contents.items()}
    role = _first(roles.values())
    train, flagged = _flags(value, role, wanted)
    silent = silent_keys(wanted) | {*PARTS, *flags_of(wanted), *(names_of(wanted) if role != TOOL else ())}
    fault = (
        _lost(value, silent, wanted)
        or _first(differing(list(pair)) for pair in (roles, texts) if _differ(pair))
        or _first(odd for _, odd in contents.values())
        or flagged
    )
    return {"role": role, "content": _first(texts.values()), "train": train, "fault": fault}


def sound(ours: str, text: str) -> str:
    """A text that can be written as UTF-8. Raises: BadRow for any other."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{ours}: half of a surrogate pair") from None
    return text


def value_under(record: dict[str, Any], ours: str, key: str) -> Any:
    """A record's value under a key. Raises: BadRow where the key is given twice."""
    if isinstance(record, Doubled) and key in record.keys_twice:
        raise BadRow(f"{ours}: a key given twice")
    return record.get(key)


def _get(value: dict[str, Any], key: str) -> Any:
    return value_under(value, "messages", key)


def _text(value: Any) -> str | None:
    return sound("messages", value) if isinstance(value, str) and not isinstance(value, Digits) else None


def _content(value: Any, wanted: Wanted) -> tuple[str | None, str | None]:
    """A content's text, and the fault of one in parts that cannot be read."""
    if not isinstance(value, list):
        return _text(value), None
    if not all(isinstance(part, dict) and _may_be_text(_get(part, "text")) for part in value):
        return None, NOT_PARTS if value else None
    for kind in (_get(part, "type") for part in value):
        if kind != "text":
            return None, odd_part(kind if isinstance(kind, str) else None)
    if len(value) != 1:
        return None, SEVERAL_PARTS if value else None
    lost = _lost(value[0], silent_keys(wanted) | {*PART_KEYS}, wanted)
    return (None, lost) if lost else (_text(value[0].get("text")), None)


def _may_be_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not isinstance(value, Digits))


def _flags(value: dict[str, Any], role: str | None, wanted: Wanted) -> tuple[bool | None, str | None]:
    """What a message's flags say, and what is wrong with them."""
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
    lost = [key for key, inner in value.items() if key not in silent and holds(inner)]
    return lost_of_message(lost, wanted) if lost else None


def _first(values: Any) -> Any:
    """The first value that is not null."""
    return next((value for value in values if value is not None), None)


def _differ(pair: Mapping[str, str | None]) -> bool:
    return len({text for text in pair.values() if text is not None}) > 1
