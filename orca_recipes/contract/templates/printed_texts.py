"""Tell whether and where a template printed a text, as it is or as JSON writes it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orca_recipes.contract.templates.dialogues import Message


def stand_in(pieces: Sequence[str], text: str) -> bool:
    """Tell whether texts stand in another one after the other, but for white space at their ends."""
    at = 0
    for piece in map(str.strip, pieces):
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def print_each(calls: Sequence[Mapping[str, Any]], answer: str) -> bool:
    """Tell whether an answer names each function as often as it is called."""
    names = Counter(str(call["function"]["name"]) for call in calls)
    # A single call is found by its texts already; of equal ones a template may print the first alone.
    repeated = [(name, count) for name, count in names.items() if count > 1]
    return all(max(answer.count(name), answer.count(json.dumps(name)[1:-1])) >= count for name, count in repeated)


def shared_start(text: str, other: str) -> int:
    """Count the characters with which both texts begin."""
    shorter = min(len(text), len(other))
    return next((at for at in range(shorter) if text[at] != other[at]), shorter)


def behind(words: str, text: str) -> str | None:
    """Return what stands behind words in a text that may have other white space before, between and behind them; None
    if it does not begin with them."""
    found = re.match(r"\s*" + r"\s*".join(map(re.escape, words.split())), text) if words.split() else None
    if found is None:
        return None
    rest = text[found.end() :]
    return rest[shared_start(words[len(words.rstrip()) :], rest) :]


def ends_alike(prompt: str, other: str, last: Message) -> bool:
    """Tell whether two prompts are the same text from their last message on."""
    alike = shared_start(prompt[::-1], other[::-1])
    return alike > 0 and is_printed((last.get("content") or "").strip(), prompt[-alike:])


def is_printed(text: str, whole: str) -> bool:
    """Tell whether a text occurs in another, as it is or as JSON writes it."""
    if text in whole:
        return True
    return any(json.dumps(text, ensure_ascii=escapes)[1:-1] in whole for escapes in (False, True))
