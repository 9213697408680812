"""Texts that a template prints around messages, found by rendering conversations of unique words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from orca_plugins.templates.from_tokenizer.sandbox import ChatTemplate, Message, Refused
from orca_recipes.contract.markup import START, Role

ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
Pair = tuple[Role, Role]
Roles = tuple[Role, ...]

# Sequences grow fourfold with each turn: all short ones are tried, and of long ones only the usual dialogue.
_EXHAUSTIVE = 4
_LONGEST = 9


@dataclass(frozen=True)
class Seen:
    """One sequence of roles, rendered.

    around: texts before the first content, between contents, and after the last; None where a content is missing,
        doubled or out of order.
    prompt: what follows the last content where an answer is asked for; None where the template refuses that.
    """

    around: tuple[str, ...] | None
    prompt: str | None


class Probes:
    """Renderings of a template by sequence of roles, each made once."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self.refusals: dict[Roles, str] = {}
        self._seen: dict[Roles, Seen | None] = {}

    def seen(self, roles: Roles) -> Seen | None:
        """Render a sequence of roles, once; None where the template refuses it (`refusals` has its words)."""
        if roles not in self._seen:
            self._seen[roles] = self._look(roles)
        return self._seen[roles]

    def words(self, roles: Roles) -> list[dict[str, str]]:
        """Make a conversation of these roles, each content a unique word."""
        return [{"role": role, "content": self._word(role, place)} for place, role in enumerate(roles)]

    def where(self, pair: Pair) -> Iterator[tuple[Roles, int]]:
        """Yield sequences in which a pair of neighbours is printed, shortest first, and the place of the second."""
        for roles in sequences():
            for place in range(len(roles)):
                before = roles[place - 1] if place else START
                if (before, roles[place]) == pair:
                    seen = self.seen(roles)
                    if seen is not None and seen.around is not None:
                        yield roles, place

    def _look(self, roles: Roles) -> Seen | None:
        messages = self.words(roles)
        try:
            around = _around(self.template.render(messages), messages)
        except Refused as refusal:
            self.refusals[roles] = str(refusal)
            if roles:
                return None
            around = None
        try:
            asked = _around(self.template.render(messages, generation_prompt=True), messages)
        except Refused:
            asked = None
        return Seen(around, asked[-1] if asked else None)

    def _word(self, role: Role, place: int) -> str:
        word = f"{role}_{place}_words"
        while word in self.template.text:
            # A word that the template itself prints could not be told apart.
            word += "_"
        return word


def sequences() -> Iterator[Roles]:
    """Yield every sequence of few roles, shortest and most usual first, then long dialogues."""
    for length in range(1, _EXHAUSTIVE + 1):
        yield from sorted(product(ROLES, repeat=length), key=_unusual)
    for turns in range(_EXHAUSTIVE + 1, _LONGEST + 1):
        dialogue = tuple(("user", "assistant")[place % 2] for place in range(turns))
        yield dialogue
        yield ("system", *dialogue)


def pairs_of(roles: Sequence[Role]) -> list[Pair]:
    """List the neighbours in a sequence, the start included."""
    return list(zip((START, *roles), roles, strict=False))


def _unusual(roles: Roles) -> tuple[int, tuple[int, ...]]:
    """Sort dialogues first: tools, system messages in the middle and repeated roles are rarely what a template is
    for."""
    strange = sum(role == "tool" or (role == "system" and place > 0) for place, role in enumerate(roles))
    repeated = sum(left == right for left, right in pairwise(roles))
    return strange + repeated + (roles[0] == "assistant"), tuple(ROLES.index(role) for role in roles)


def _around(text: str, messages: Sequence[Message]) -> tuple[str, ...] | None:
    parts, place = [], 0
    for message in messages:
        word = message["content"]
        found = text.find(word, place)
        if found < 0 or text.count(word) != 1:
            return None
        parts.append(text[place:found])
        place = found + len(word)
    return (*parts, text[place:])
