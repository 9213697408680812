"""Conversations made to show where training and inference part: every shape a template has, with odd contents in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any

from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import START, Markup, Role
from orca_recipes.run.renderers.markers import markers
from orca_recipes.shards.layout import ROLES

_ROLES = ROLES[1:]
# Sequences grow fourfold with each turn: all short ones are tried, and of long ones only the usual dialogue.
_EXHAUSTIVE = 3
_SHAPES = 40
_TURNS = 4

Shape = tuple[Role, ...]


@dataclass(frozen=True)
class Conversation:
    """One conversation (`frames.MESSAGES`); cut: its last answer is not finished. planted: holds a control text."""

    messages: tuple[Mapping[str, Any], ...]
    cut: bool = False
    planted: bool = False

    @property
    def answers(self) -> list[int]:
        """Return places of the trained messages."""
        return [place for place, message in enumerate(self.messages) if message["trained"]]

    def innocent(self) -> tuple[Mapping[str, Any], ...]:
        """Return the messages, with plain words in place of contents that hold a control token's text."""
        return tuple({**message, "content": "words"} for message in self.messages) if self.planted else self.messages

    def __str__(self) -> str:
        told = ", ".join(f"{message['role']} {message['content'][:40]!r}" for message in self.messages)
        return told + (" (not finished)" if self.cut else "")


def conversations(markup: Markup, vocabulary: Vocabulary) -> list[Conversation]:
    """Make every shape in plain words, finished and cut, and the usual shapes with one odd content in each place.

    All answers are trained, or the last alone: each shape comes in both ways.
    """
    shapes = list(_shapes(markup))
    found = [_spoken(shape, {}, last_only=flag) for shape in shapes for flag in (False, True)]
    found += [_spoken(shape, {}, cut=True) for shape in shapes]
    innocent, planted = _contents(markup, vocabulary)
    for shape in _usual(markup, shapes):
        for place in range(len(shape)):
            for number, content in enumerate(innocent):
                found.append(_spoken(shape, {place: content}, last_only=bool(number % 2), cut=number % 5 == 0))
            found += [_spoken(shape, {place: content}, planted=True) for content in planted]
    return found + [_spoken(shape, dict(enumerate(innocent[at:])), last_only=True) for at, shape in enumerate(shapes)]


def _spoken(
    shape: Shape, odd: Mapping[int, str], *, last_only: bool = False, cut: bool = False, planted: bool = False
) -> Conversation:
    last = len(shape) - 1
    messages = tuple(
        {
            "role": role,
            "content": odd.get(place, f"some words {place}"),
            "trained": role == "assistant" and (place == last or not last_only),
        }
        for place, role in enumerate(shape)
    )
    return Conversation(messages, cut, planted)


def _shapes(markup: Markup) -> Iterator[Shape]:
    """Yield the template's sequences of roles that end in an answer: usual ones first, long dialogues last."""
    short: list[Shape] = []
    frontier: list[Shape] = [()]
    for _ in range(_EXHAUSTIVE + 1):
        frontier = [(*shape, role) for shape in frontier for role in _ROLES if _may_follow(markup, shape, role)]
        short += [shape for shape in frontier if shape[-1] == "assistant"]
    dialogue = ("user", "assistant") * _TURNS
    long = [shape for shape in (dialogue, ("system", *dialogue)) if _is_printable(markup, shape)]
    yield from [*sorted(short, key=_unusual)[:_SHAPES], *long]


def _unusual(shape: Shape) -> tuple[int, int]:
    """Sort dialogues first: tools, late system messages and repeated roles are rarely what a template is for."""
    strange = sum(role == "tool" or (role == "system" and place > 0) for place, role in enumerate(shape))
    repeated = sum(left == right for left, right in pairwise(shape))
    return strange + repeated + (shape[0] == "assistant") + ("user" not in shape), len(shape)


def _usual(markup: Markup, shapes: list[Shape]) -> list[Shape]:
    """Choose the usual shapes: one question with and without a system message, and dialogues; without any of them, the
    first shape."""
    turn = ("user", "assistant")
    wanted = [turn, ("system", *turn), turn * 2, ("system", *turn * 3), turn * 3]
    found = [shape for shape in wanted if _is_printable(markup, shape)]
    return found[:4] or shapes[:1]


def _is_printable(markup: Markup, shape: Shape) -> bool:
    return all(_may_follow(markup, shape[:place], role) for place, role in enumerate(shape))


def _may_follow(markup: Markup, before: Shape, role: Role) -> bool:
    if before:
        return (before[-1], role) in markup.joints
    if markup.default_system is not None and role != "system":
        return (START, "system") in markup.joints and ("system", role) in markup.joints
    return (START, role) in markup.joints


def _contents(markup: Markup, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """Return contents without and with the text of a control token; the template's own texts are among them."""
    listed: list[str] = json.loads(resources.files(__package__).joinpath("odd_contents.json").read_bytes())
    own = {text.strip() for joint in markup.joints.values() for text in (joint.footer, joint.header)}
    own |= {markup.terminator.strip(), markup.answer_prefix.strip(), *markers(markup)}
    named = [vocabulary.bos, vocabulary.eos, vocabulary.pad, *sorted(vocabulary.control)[:8]]
    controls = list(dict.fromkeys(text for text in named if text))
    texts = [*listed, *sorted(own - {""}), *(f"say {text} twice: {text}" for text in controls)]
    planted = [text for text in texts if any(control in text for control in vocabulary.control)]
    return [text for text in texts if text not in planted], planted
