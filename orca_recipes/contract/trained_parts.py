"""The parts of an answer that carry loss: reasoning, content, calls. An untrained part stays as context.

A part is trained or it is not: there are no weights. What a template prints between two parts belongs to the later one,
but what closes a thought belongs to the thought; the end of an answer belongs to its last part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PARTS = ("reasoning", "content", "tool_calls")


@dataclass(frozen=True)
class TrainedParts:
    """The trained parts of answers, a flag each."""

    reasoning: bool = True
    content: bool = True
    tool_calls: bool = True

    def has(self, part: str) -> bool:
        return bool(getattr(self, part))

    def told(self) -> str:
        """Join their names by +."""
        return "+".join(part for part in PARTS if self.has(part))


def parts_told(text: str) -> TrainedParts:
    """Read the parts back from the text of `told`."""
    names = text.split("+")
    return TrainedParts(**{part: part in names for part in PARTS})


@dataclass(frozen=True)
class PartSpan:
    """Some characters of an answer, of one of PARTS."""

    part: str
    begin: int
    stop: int


def part_spans(
    answer: str,
    *,
    thought: str,
    said: str,
    calls: Sequence[Mapping[str, Any]],
    closing: str,
    control: re.Pattern[str],
) -> tuple[PartSpan, ...]:
    """Split an answer with its end into parts, in order and without gaps.

    Args:
        thought, said: as the message has them, "" where it has none. closing: what closes a thought.
    """
    said, end = said.strip(), len(answer)
    after = _end_of_thought(answer, thought.strip(), said, closing, control) if thought.strip() else 0
    found = [PartSpan("reasoning", 0, after)] if after else []
    if not calls:
        found.append(PartSpan("content", after, end))
    elif not said:
        found.append(PartSpan("tool_calls", after, end))
    else:
        begin = answer.find(said, after)
        called = answer.find(str(calls[0]["function"]["name"]), after)
        if -1 < called < begin:
            found += [PartSpan("tool_calls", after, begin), PartSpan("content", begin, end)]
        else:
            stop = begin + len(said)
            found += [PartSpan("content", after, stop), PartSpan("tool_calls", stop, end)]
    return tuple(span for span in found if span.stop > span.begin)


def _end_of_thought(answer: str, thought: str, said: str, closing: str, control: re.Pattern[str]) -> int:
    stop = answer.find(thought) + len(thought)
    begin = answer.find(said, stop) if said else len(answer)
    between = answer[stop:begin]
    if closing in between:
        return stop + between.index(closing) + len(closing)
    match = control.search(between)
    return stop + match.end() if match and said else stop
