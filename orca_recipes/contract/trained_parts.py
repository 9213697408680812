"""The parts of an answer that carry loss: reasoning, content, calls. An untrained part stays as context.

A part is trained or it is not: there are no weights. What a template prints between two parts belongs to the later one,
but what closes a thought belongs to the thought; the end of an answer belongs to its last part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


def interleaved_spans(
    answer: str, *, content: str, calls: Sequence[Mapping[str, Any]], marks: tuple[str, str]
) -> tuple[PartSpan, ...]:
    """Split an answer with its end into parts, where its content has several thoughts and is printed word for word.

    Args:
        content: without white space around it. marks: what opens and closes a thought; the prompt may open the first.
    """
    opening, closing = map(re.escape, marks)
    begin, at, found = 0, answer.index(content), list[PartSpan]()
    pieces = re.split(rf"((?:\A|{opening})(?:(?!{opening}).)*?{closing})", content, flags=re.DOTALL)
    for number, piece in enumerate(pieces):
        at += len(piece)
        if piece.strip():
            found.append(PartSpan("reasoning" if number % 2 else "content", begin, at))
            begin = at
    if calls:
        return (*found, PartSpan("tool_calls", begin, len(answer)))
    return (*found[:-1], replace(found[-1], stop=len(answer)))


def _end_of_thought(answer: str, thought: str, said: str, closing: str, control: re.Pattern[str]) -> int:
    stop = answer.find(thought) + len(thought)
    begin = answer.find(said, stop) if said else len(answer)
    between = answer[stop:begin]
    if closing in between:
        return stop + between.index(closing) + len(closing)
    match = control.search(between)
    return stop + match.end() if match and said else stop
