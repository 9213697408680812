"""Bounds on each field of an imported trace, as the store trusts its contents for good."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orca_recipes.traces.trace_lines import BESIDE_TEXT, COUNTS, EARLIEST_TIME, LATEST_TIME, MOST_COUNT

# Clocks of machines that share answers differ, by hours where a time zone was taken for another.
_DAY_SECONDS = 86_400.0
# Answers come from servers and from files of others: bounds far above any real one keep a line from filling memory or a
# column's type.
_TEXT_CHARS = 64 << 20
_NAME_CHARS = 1_000
_MESSAGES = 100_000
_SAMPLES = 1 << 31
_NAMES = ("finish_reason", "reason", "model_asked", "model_reported", "endpoint", "request_id")
_NEEDED = frozenset({"finish_reason", "model_asked", "endpoint"})
_SHOWN = 24


def check_bounds(table: Mapping[str, Any]) -> None:
    """Hold every field of a trace's JSON table against what it may be; fields that are missing are no matter here.

    Raises: ValueError, with field, value and what is allowed.
    """
    for name in COUNTS:
        value = table.get(name)
        if value is not None and not (type(value) is int and 0 <= value <= MOST_COUNT):
            raise _refused(name, value, f"a whole number from 0 to {MOST_COUNT:,}, or null")
    if "time" in table:
        _check_time(table["time"])
    for name in ("text", *BESIDE_TEXT):
        if not _is_text(table.get(name), _TEXT_CHARS):
            raise _refused(name, table[name], f"text of at most {_TEXT_CHARS:,} characters, or null")
    for name in _NAMES:
        value = table.get(name)
        if not _is_text(value, _NAME_CHARS) or (value is None and name in _NEEDED and name in table):
            null = "" if name in _NEEDED else ", or null"
            raise _refused(name, value, f"text of at most {_NAME_CHARS:,} characters{null}")
    if table.get("question") is not None:
        _check_question(table["question"])


def _check_time(value: Any) -> None:
    latest = min(time.time() + _DAY_SECONDS, LATEST_TIME)
    if not (type(value) in (int, float) and EARLIEST_TIME <= value <= latest):
        until = datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%d")
        allowed = f"seconds since 1970, from {EARLIEST_TIME:.0f} (2010) to {latest:.0f} ({until}, a day from now)"
        raise _refused("time", value, allowed)


def _check_question(question: Any) -> None:
    if not isinstance(question, dict):
        raise _refused("question", question, "a table of messages, sampling and sample, or null")
    messages = question.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= _MESSAGES:
        raise _refused("question.messages", messages, f"a list of 1 to {_MESSAGES:,} messages")
    for message in messages:
        pair = isinstance(message, list) and len(message) == 2 and all(isinstance(part, str) for part in message)
        if not pair or len(message[0]) > _NAME_CHARS or len(message[1]) > _TEXT_CHARS:
            raise _refused("question.messages", message, "pairs of role and content, both texts")
    beside = question.get("beside")
    if beside is not None and not (isinstance(beside, list) and all(_is_table(text) for text in beside)):
        raise _refused("question.beside", beside, "a list of the texts of JSON tables, or nulls, one a message")
    if not _is_text(question.get("tools"), _TEXT_CHARS):
        raise _refused("question.tools", question["tools"], "the text of a JSON list of tools, or null")
    if not isinstance(question.get("sampling"), dict):
        raise _refused("question.sampling", question.get("sampling"), "a table of options")
    sample = question.get("sample")
    if not (type(sample) is int and 0 <= sample < _SAMPLES):
        raise _refused("question.sample", sample, f"a whole number from 0 to {_SAMPLES - 1:,}")


def _is_table(value: Any) -> bool:
    if value is None:
        return True
    try:
        return _is_text(value, _TEXT_CHARS) and isinstance(json.loads(value), dict)
    except (ValueError, TypeError, RecursionError):
        return False


def _is_text(value: Any, most: int) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= most)


def _refused(name: str, value: Any, allowed: str) -> ValueError:
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        text = "a number of thousands of digits"
    return ValueError(f"{name} is {text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''}; it must be {allowed}")
