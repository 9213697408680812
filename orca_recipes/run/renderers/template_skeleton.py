"""A chat template's text around messages, and parsing of a text into messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, product
from operator import itemgetter

from orca_recipes.contract.markup import Role
from orca_recipes.contract.templates.chat_template import Refused
from orca_recipes.errors import TemplateError
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.shards.layout import ROLES

_MIXED = ROLES.index("mixed")
_BEGINNINGS: tuple[tuple[Role, ...], ...] = (("user",), ("system", "user"))
"""What a run of two roles holds at the start of a conversation; later ones hold a question."""


@dataclass(frozen=True)
class Around:
    """Texts before, between and after contents, as they are printed and as the tokenizer keeps them."""

    printed: tuple[str, ...]
    kept: tuple[str, ...]


class Skeletons:
    """The texts between contents, by roles; each is looked up by rendering a conversation of plain words."""

    def __init__(self, inference: Inference, normal: Callable[[str], str]) -> None:
        """normal: what the tokenizer keeps of a text that may hold control tokens."""
        self._inference = inference
        self._normal = normal
        # A decorator's cache would be one for all instances and keep them alive.
        self._around = lru_cache(maxsize=4096)(self._look)

    def messages(self, text: str, roles: Sequence[Role]) -> list[list[Mapping[str, str]]]:
        """Read the messages of these roles back from a prompt's text: none where the text cannot be such a prompt.

        Two readings where it can be read in more ways than one, as contents may hold what the template prints around
        them: that with the shortest messages first, and that with the shortest last.
        """
        around = self._around(tuple(roles))
        first = None if around is None else _contents(text, around.kept)
        if around is None or first is None:
            return []
        last = _contents_from_end(text, around.kept)
        return [
            [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
            for contents in ([first] if first == last else [first, last])
        ]

    def around(self, roles: Sequence[Role]) -> Around | None:
        """Return the template's text around the contents of a prompt; None where it prints no prompt in that form."""
        return self._around(tuple(roles))

    def _look(self, roles: tuple[Role, ...]) -> Around | None:
        # Words that no template has of its own, and that no `trim` changes.
        words = [f"{role}_{place}_words" for place, role in enumerate(roles)]
        messages = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
        try:
            text = self._inference.prompt(messages)
        except (Refused, TemplateError):
            return None
        places = [text.find(word) for word in words]
        # A template that prints a message twice, or moves it, cannot be read back from its text.
        if any(text.count(word) != 1 for word in words) or places != sorted(places):
            return None
        ends = [0, *(place + len(word) for place, word in zip(places, words, strict=True))]
        printed = tuple(text[start:stop] for start, stop in zip(ends, [*places, len(text)], strict=True))
        return Around(printed, tuple(map(self._normal, printed)))


def possible_roles(codes: Sequence[int], trained: Sequence[bool]) -> Iterator[tuple[Role, ...]]:
    """Yield the role sequences a prompt's messages may have, given its segments' role codes, likeliest first.

    Every trained segment is an answer of its own. A generation prompt is the assistant's and no message, so what is not
    trained of the assistant's at the end is left out, or holds one answer more.
    """
    told: list[int] = []
    answers = 0
    for code, run in groupby(zip(codes, trained, strict=True), key=itemgetter(0)):
        answers = sum(is_trained for _, is_trained in run)
        told += [code] * max(answers, 1)
    ends = [told]
    if told and ROLES[told[-1]] == "assistant":
        ends = [told, [*told, told[-1]]] if answers else [told[:-1], told]
    for kept in ends:
        for chosen in product(*(_choices(code, place) for place, code in enumerate(kept))):
            yield tuple(role for roles in chosen for role in roles)


def _choices(code: int, place: int) -> tuple[tuple[Role, ...], ...]:
    if code != _MIXED:
        return ((ROLES[code],),)
    return _BEGINNINGS if place == 0 else (("user",),)


def _contents(text: str, around: Sequence[str]) -> list[str] | None:
    """Cut the contents out of a prompt; each text around is matched at its first place, the last one at the end."""
    first, last = around[0], around[-1]
    if len(around) == 1:
        return [] if text == first else None
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return None
    contents, place, end = [], len(first), len(text) - len(last)
    for between in around[1:-1]:
        found = text.find(between, place, end)
        if found < 0:
            return None
        contents.append(text[place:found])
        place = found + len(between)
    return [*contents, text[place:end]]


def _contents_from_end(text: str, around: Sequence[str]) -> list[str]:
    """Cut out contents that `_contents` found; each text around is matched at its last place."""
    contents: list[str] = []
    place, end = len(around[0]), len(text) - len(around[-1])
    for between in reversed(around[1:-1]):
        found = text.rfind(between, place, end)
        contents.insert(0, text[found + len(between) : end])
        end = found
    return [text[place:end], *contents] if len(around) > 1 else []
