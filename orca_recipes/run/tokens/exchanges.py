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
    """Where exchanges begin; what stands before the first question, but for the head, is one of its own."""
    head = next((at for at, message in enumerate(messages) if message["role"] not in _HEAD), len(messages))
    return [
        at
        for at in range(head, len(messages))
        if at == head or (messages[at]["role"] == "user" and messages[at - 1]["role"] != "user")
    ]


def without_oldest(messages: Sequence[Message], count: int) -> list[Message]:
    """The messages without that many exchanges; fewer than there are."""
    begins = beginnings(messages)
    return [*messages[: begins[0]], *messages[begins[count] :]]
