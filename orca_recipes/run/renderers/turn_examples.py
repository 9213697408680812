"""Trained turns become examples: one for all turns that inference would see in a row, else one a turn.

Two turns stand in one example where the first, answer and end included, is what inference is given before the second,
text and tokens: then nothing is trained twice. Elsewhere each has an example of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orca_recipes.contract.rendering import KNOWN_MARKS
from orca_recipes.contract.templates.dialogues import calls_of, leaves_of
from orca_recipes.contract.templates.turn_texts import TurnText
from orca_recipes.run.renderers.header_start import header_start
from orca_recipes.shards.layout import ROLES
from orca_recipes.shards.records import ALL_TURNS

_MIXED, _SYSTEM, _ASSISTANT = (ROLES.index(role) for role in ("mixed", "system", "assistant"))
_CLOSING = re.compile("|".join(re.escape(closing) for _, closing in KNOWN_MARKS))


@dataclass(frozen=True)
class TurnExample:
    """Some trained turns of a conversation in one example.

    owner: position of the conversation. turn: number of its last turn, ALL_TURNS where it holds all that are trained.
    """

    owner: int
    turn: int
    turns: Sequence[TurnText]

    @property
    def text(self) -> str:
        """Return all of the example."""
        return self.turns[-1].prompt + self.turns[-1].answer


@dataclass(frozen=True)
class Joining:
    """Text on both sides of where an answer begins, within one run: before, from the control token before it on."""

    before: str
    after: str
    is_start: bool


@dataclass(frozen=True)
class Span:
    """Some text of an example with one role, trained or not."""

    text: str
    role: int
    trained: bool


def joinings(turns: Sequence[TurnText], control: re.Pattern[str]) -> Iterator[Joining]:
    """Yield joinings of turns that may share an example only if their tokens are those of later prompts."""
    for turn, following in pairwise(turns):
        if following.prompt.startswith(turn.prompt + turn.answer):
            yield _joining(turn, control)


def examples_of(
    owner: int, turns: Sequence[TurnText], control: re.Pattern[str], parted: Mapping[Joining, bool]
) -> list[TurnExample]:
    """Group the trained turns of a conversation into examples.

    Args:
        parted: whether the tokens of a joining are other ones where it is encoded whole.
    """
    groups: list[list[TurnText]] = []
    for turn in turns:
        last = groups[-1][-1] if groups else None
        follows = last is not None and turn.prompt.startswith(last.prompt + last.answer)
        # Text that goes on across the joint would be other tokens than inference has: the turn gets an example of its
        # own.
        if last is not None and follows and not parted[_joining(last, control)]:
            groups[-1].append(turn)
        else:
            groups.append([turn])
    is_whole = len(groups) == 1
    return [TurnExample(owner, ALL_TURNS if is_whole else group[-1].number, group) for group in groups]


def spans_of(example: TurnExample, messages: Sequence[Mapping[str, Any]], control: re.Pattern[str]) -> Iterator[Span]:
    """Yield the text of an example in spans; text between two messages belongs to the one it opens or closes, and what
    the template says before it opens the first (tools, a system message of its own) to the system."""
    text, at, role, trained = example.text, 0, _SYSTEM, False
    marks = _marks(example, messages, control)
    headers = _of_answers(text, marks, control)
    for begin, end, marked, is_answer in marks:
        between = text[at:begin]
        if role == _SYSTEM:
            # Tools stand behind a system message, or in the place of one.
            footer = header_start(between, control, headers) or (_footer(between, control) if at else 0)
        else:
            footer = _footer(between, control, after_answer=trained)
        middle = at + footer
        if middle > at:
            yield Span(text[at:middle], role, False)
        if begin > middle:
            yield Span(text[middle:begin], marked, False)
        yield Span(text[begin:end], marked, is_answer)
        at, role, trained = end, marked, is_answer
    if at < len(text):
        yield Span(text[at:], role, False)


def _marks(
    example: TurnExample, messages: Sequence[Mapping[str, Any]], control: re.Pattern[str]
) -> list[tuple[int, int, int, bool]]:
    """List begin, end, role and trained flag of each content or call found and each trained answer, in order."""
    # A short content ("a") must not be found within a control token.
    text = control.sub(lambda token: "\0" * len(token.group()), example.text)
    shown = messages[: example.turns[-1].place + 1]
    found = list(_found(example, shown, text, 0))
    if len(found) < len(shown) and shown[0]["role"] == "system":
        # Some templates print the system message in the last question: looked for there, it would hide all before it.
        others = list(_found(example, shown, text, 1))
        found = others if len(others) > len(found) else found
    return found


def _found(
    example: TurnExample, messages: Sequence[Mapping[str, Any]], text: str, first: int
) -> Iterator[tuple[int, int, int, bool]]:
    """Yield begin, end, role and trained flag of messages from the first looked for on. text: without control
    tokens."""
    answers, at = {turn.place: turn for turn in example.turns}, 0
    starts = [len(turn.prompt) for turn in example.turns]
    for place, message in enumerate(messages[first:], first):
        role = ROLES.index(message["role"]) if message["role"] in ROLES else _MIXED
        if place in answers:
            begin = len(answers[place].prompt)
            yield begin, begin + len(answers[place].answer), _ASSISTANT, True
            at = begin + len(answers[place].answer)
            continue
        # A content is never looked for in an answer that is trained: it would take the answer's words for its own.
        limit = next(start for start in starts if start >= at)
        found = _said(message, text, at, limit)
        if found is not None:
            yield *found, role, False
            at = found[1]


def _said(message: Mapping[str, Any], text: str, start: int, limit: int) -> tuple[int, int] | None:
    """Find where a text prints a message: its content or, where it has none, its calls from the first function's name
    to the last's arguments."""
    words = (message.get("content") or "").strip()
    # History leaves the thoughts out of what earlier answers said.
    for said in dict.fromkeys((words, _CLOSING.split(words)[-1].strip())):
        begin = text.find(said, start, limit) if said else -1
        if begin >= 0:
            return begin, begin + len(said)
    if words:
        return None
    begin, end = -1, start
    for call in calls_of(message):
        for leaf in leaves_of(call["function"]):
            forms = (leaf, json.dumps(leaf, ensure_ascii=False)[1:-1])
            found = next(((at, form) for form in forms if (at := text.find(form, end, limit)) >= 0), None)
            if found is None:
                return None
            begin, end = found[0] if begin < 0 else begin, found[0] + len(found[1])
    return (begin, end) if begin >= 0 else None


def _footer(between: str, control: re.Pattern[str], *, after_answer: bool = False) -> int:
    """Return the number of characters between two messages that close the first."""
    if after_answer:
        return len(between) - len(between.lstrip())
    found = [match.span() for match in control.finditer(between)]
    # One control token may end the message before or begin this one: only of two it is known which is which.
    if len(found) < 2:
        return found[0][0] if found else 0
    rest = between[found[0][1] :]
    return found[0][1] + len(rest) - len(rest.lstrip())


def _of_answers(text: str, marks: Sequence[tuple[int, int, int, bool]], control: re.Pattern[str]) -> list[str]:
    """List the control tokens of the first trained answer's header; none where it begins the conversation."""
    answer = next((place for place, mark in enumerate(marks) if mark[3]), 0)
    if not answer:
        return []
    (_, end, _, _), begin = marks[answer - 1], marks[answer][0]
    between = text[end:begin]
    return control.findall(between[_footer(between, control) :])


def _joining(turn: TurnText, control: re.Pattern[str]) -> Joining:
    ends = [match.end() for match in control.finditer(turn.prompt)]
    first = control.search(turn.answer)
    return Joining(
        turn.prompt[ends[-1] if ends else 0 :], turn.answer[: first.start() if first else None], is_start=not ends
    )
