"""The items of a trajectory (steps, events, actions and observations) as messages, by the rules of a shape.

An item that no rule knows, or that holds something no rule reads, is never passed over: its row is rejected, and the
sentence names it. What follows the last answer teaches nothing and is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orca_plugins.sources.files.columns import Wanted, routes, shown
from orca_plugins.sources.files.json_rows.strict_json import BadRow, Digits, once
from orca_plugins.sources.files.turns.item_rules import CallRule, ItemRule, ReplyRule
from orca_plugins.sources.files.turns.message_keys import ASSISTANT, TOOL, holds, known, lost_of_message
from orca_plugins.sources.files.turns.tool_values import value_text
from orca_plugins.sources.files.turns.turn_values import value_under

_BETWEEN = "\n\n"
_SAID_CHARS = 40
_SAID_BESIDE_CALLS = ("content", "reasoning_content")


def messages_of_items(items: Sequence[Any], wanted: Wanted) -> list[dict[str, Any]]:
    """Convert items to messages in OpenAI's format, up to the last answer.

    Raises: BadRow.
    """
    made: list[dict[str, Any]] = []
    met: set[str] = set()
    joined = None
    for place, item in enumerate(items):
        rule = _rule_of(item, place, wanted.items)
        if rule.refused is not None:
            raise BadRow(f"messages: item {place + 1} is {rule.refused}")
        if rule.role is None:
            continue
        _require_read(item, rule.read_keys(), wanted)
        if rule.whole is not None and isinstance(inner := _value(item, rule.whole), Mapping):
            _require_read(inner, rule.read_within(rule.whole), wanted)
        once = _value(item, rule.once)
        if isinstance(once, str) and once in met:
            continue
        met |= {once} if isinstance(once, str) else set()
        value = _value(item, rule.joins)
        if value is not None and value == joined and made and made[-1]["role"] == ASSISTANT:
            said = _message(item, rule, wanted)
            if any(holds(said.get(key)) and said[key] != made[-1].get(key) for key in _SAID_BESIDE_CALLS):
                raise BadRow(f"messages: item {place + 1} holds a text of its own, and only its calls join the others")
            made[-1].setdefault("tool_calls", []).extend(said.get("tool_calls", ()))
            continue
        joined = value
        made.append(_message(item, rule, wanted))
        made += _replies(item, rule.replies, wanted)
    answers = [place for place, message in enumerate(made) if message["role"] == ASSISTANT]
    if not answers:
        raise BadRow("messages: no item of the trajectory is an answer")
    return made[: answers[-1] + 1]


def _rule_of(item: Any, place: int, rules: Sequence[ItemRule]) -> ItemRule:
    if not isinstance(item, Mapping):
        raise BadRow("messages: an item that is not an object")
    once(item, "messages")
    for rule in rules:
        if rule.at in (None, place) and all(_is_so(item, path, asked) for path, asked in rule.when.items()):
            return rule
    told = {path.partition(".")[0]: None for rule in rules for path in rule.when}
    said = [f"{name} = {_short(value)}" for name in told if isinstance(value := item.get(name), str)]
    raise BadRow(f"messages: item {place + 1} is none that this shape knows ({', '.join(said) or 'none of its keys'})")


def _is_so(item: Mapping[str, Any], path: str, asked: Any) -> bool:
    value = _value(item, path)
    if isinstance(asked, bool):
        return (holds(value) and value is not False) is asked
    return value in (asked if isinstance(asked, tuple) else (asked,))


def _require_read(value: Mapping[str, Any], read: set[str], wanted: Wanted) -> None:
    """Refuse a key that holds something and is not read."""
    silent = read | known().harmless | wanted.ignored
    if lost := [key for key, inner in value.items() if key not in silent and holds(inner)]:
        raise BadRow(lost_of_message(lost, wanted))


def _message(item: Mapping[str, Any], rule: ItemRule, wanted: Wanted) -> dict[str, Any]:
    for path in (*rule.content, rule.reasoning, rule.reply_to, rule.calls.of if rule.calls is not None else None):
        _require_whole(item, path)
    found = {
        "role": rule.role,
        "content": _content(item, rule.content, as_json=rule.as_json),
        "reasoning_content": _value(item, rule.reasoning),
        "name": _value(item, rule.name),
        "tool_call_id": _value(item, rule.reply_to),
        "train": _trained(item, rule),
    }
    if calls := _calls(item, rule.calls, wanted):
        found["tool_calls"] = calls
    if rule.role == ASSISTANT and found["content"] is None:
        found["content"] = ""
    return {key: value for key, value in found.items() if value is not None}


def _trained(item: Mapping[str, Any], rule: ItemRule) -> Any:
    """Return whether the message is trained, by the rule; None where nothing says so."""
    if rule.context or (rule.untrained is not None and _value(item, rule.untrained) is True):
        return False
    return _value(item, rule.train)


def _content(item: Mapping[str, Any], paths: tuple[str, ...], *, as_json: bool) -> Any:
    if len(paths) == 1:
        value = _value(item, paths[0])
        return value_text(value, "messages: content") if as_json and value is not None else value
    texts = [value for path in paths if isinstance(value := _value(item, path), str) and value.strip()]
    # One text may stand under several keys.
    told = dict[str, str]()
    for text in texts:
        told.setdefault(text.strip(), text)
    return _BETWEEN.join(told.values()) if told else None


def _calls(item: Mapping[str, Any], rule: CallRule | None, wanted: Wanted) -> list[dict[str, Any]]:
    if rule is None:
        return []
    found = _value(item, rule.of) if rule.of else item
    calls = found if isinstance(found, list) else [found] if found is not None else []
    return [_call(call, rule, wanted) for call in calls]


def _call(value: Any, rule: CallRule, wanted: Wanted) -> dict[str, Any]:
    """Convert a call to OpenAI's format."""
    if not isinstance(value, Mapping):
        raise BadRow("messages: a call that is no object")
    if rule.of:
        _require_read(value, {"type", *(path.partition(".")[0] for path in rule.paths())}, wanted)
    given = {name: _value(value, path) for name, path in rule.given.items()}
    arguments = {name: inner for name, inner in given.items() if inner is not None} if given else None
    function = {
        "name": rule.named or _value(value, rule.name),
        "arguments": _value(value, rule.arguments) if arguments is None else arguments,
    }
    number = _value(value, rule.id)
    return {"type": "function", "function": function, **({} if number is None else {"id": number})}


def _replies(item: Mapping[str, Any], rule: ReplyRule | None, wanted: Wanted) -> Iterator[dict[str, Any]]:
    if rule is None:
        return
    holder, _, last = rule.of.rpartition(".")
    around, found = _value(item, holder), _value(item, rule.of)
    if isinstance(around, Mapping):
        _require_read(around, {last}, wanted)
    if found is None:
        return
    if not isinstance(found, list):
        raise BadRow(f"messages: {rule.of} is no list")
    for reply in found:
        if not isinstance(reply, Mapping):
            raise BadRow("messages: a reply that is no object")
        _require_read(reply, {rule.id, rule.content}, wanted)
        number = _value(reply, rule.id)
        beside = {} if number is None else {"tool_call_id": number}
        yield {"role": rule.without_id if number is None else TOOL, "content": _value(reply, rule.content), **beside}


def _value(item: Any, path: str | None) -> Any:
    """Follow a path into an item; None where it leads nowhere."""
    if not path:
        return None
    for key in routes(path)[-1]:
        if isinstance(item, list) and key.isdecimal():
            item = item[int(key)] if int(key) < len(item) else None
        else:
            item = value_under(item, "messages", key) if isinstance(item, dict) else None
    return item


def _require_whole(item: Any, path: str | None) -> None:
    """Refuse a list of which a path reads one item and loses others."""
    for key in routes(path)[-1] if path else ():
        if isinstance(item, list) and key.isdecimal():
            if len(item) > int(key) + 1:
                raise BadRow(f"messages: an item's {path} is one of {len(item)}, and the others would be lost")
            item = item[int(key)] if int(key) < len(item) else None
        else:
            item = item.get(key) if isinstance(item, Mapping) else None


def _short(value: str | Digits) -> str:
    return shown(value if len(value) <= _SAID_CHARS else value[:_SAID_CHARS] + "...")
