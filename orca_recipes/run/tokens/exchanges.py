"""Conversations in exchanges, so that the oldest ones can be left out.

An exchange begins with what a user says and holds all that follows until a user speaks again: answers, calls and their
replies, so that no call is parted from its reply. System messages at the beginning belong to none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = ("system", "developer")

Message = Mapping[str, Any]


def beginnings(messages: Sequence[Message]) -> list[int]:
    """List the positions at which exchanges begin; messages between the head and the first question are an exchange of
    their own."""
    head = next((at for at, message in enumerate(messages) if message["role"] not in _HEAD), len(messages))
    return [
        at
        for at in range(head, len(messages))
        if at == head or (messages[at]["role"] == "user" and messages[at - 1]["role"] != "user")
    ]


def without_oldest(messages: Sequence[Message], count: int) -> list[Message]:
    """Leave out that many of the oldest exchanges; `count` is less than their number."""
    begins = beginnings(messages)
    return [*messages[: begins[0]], *messages[begins[count] :]]
