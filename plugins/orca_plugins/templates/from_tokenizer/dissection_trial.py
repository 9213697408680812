"""A markup against the template it was taken from, character by character, on conversations made to part them.

What a template prints around a message may depend on more than its neighbours (the last turn, the first, a word in the
content). Pairs of neighbours that dialogues do without are left out where they are printed in several ways; anything
else that differs is told with the shortest conversation that shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from itertools import islice

import numpy as np

from orca_plugins.templates.from_tokenizer.dissection import CANNOT
from orca_plugins.templates.from_tokenizer.probe_renders import ROLES, Pair, Probes, Roles, pairs_of, sequences
from orca_plugins.templates.from_tokenizer.sandbox import ChatTemplate, Message, Refused
from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.markup import START, Markup, Role, assemble_text
from orca_recipes.contract.templates.chat_template import literals
from orca_recipes.errors import TemplateError

_DIALOGUE: tuple[Pair, ...] = (
    (START, "system"),
    (START, "user"),
    ("system", "user"),
    ("user", "assistant"),
    ("assistant", "user"),
)
_TURN: Roles = ("user", "assistant")
_DIALOGUES: tuple[Roles, ...] = (("system", *_TURN, *_TURN, "user"), _TURN * 3, (*_TURN, *_TURN, "user"), _TURN * 2)
"""An odd content stands in each place of the first two that a template prints: its turn may matter."""

# One odd content at a time finds nearly all; these find templates that look at two of them together.
_MIXED = 200
# Longer ones are instructions that a template prints, and nothing that it looks for in a content.
_LONGEST_LITERAL = 60
"""Longer strings of a template are texts that it prints, of tools and the like."""
_ASKED = re.compile(r"""(["'])([^"']*)\1\s*(?:(?:not\s+)?in\b|\))""")
"""A string that is looked for, or the last that a function is given."""
Conversation = Sequence[Message]


def lasting(probes: Probes, markup: Markup) -> Markup:
    """Keep the pairs that are printed alike in every conversation of plain words.

    Raises: TemplateError, with the shortest dialogue on which markup and template differ.
    """
    pairs = [pair for pair in _DIALOGUE if pair in _printable(markup)]
    _require(probes, _only(markup, pairs), _plain(probes, pairs))
    # Sorted, since which pairs stay may depend on the order, and the markup is pinned.
    for pair in sorted(set(markup.joints) - set(pairs)):
        grown = [*pairs, pair]
        telling = [messages for messages in _plain(probes, grown) if pair in _pairs(messages)]
        if telling and all(_holds(probes.template, _only(markup, grown), messages) for messages in telling):
            pairs = grown
    return _only(markup, pairs)


def proven(probes: Probes, markup: Markup) -> Markup:
    """Check that contents of all sorts are printed word for word, and return the markup, without tools' messages if
    theirs are not.

    Raises: TemplateError, with the shortest conversation on which markup and template differ.
    """
    markup = _without_acting_tools(probes, markup)
    _require(probes, markup, [*_plain(probes, _printable(markup)), *_odd(probes, markup), *_mixed(probes, markup)])
    return markup


def samples(probes: Probes, markup: Markup) -> list[Conversation]:
    """Return conversations of plain words that the markup prints."""
    return _plain(probes, _printable(markup))


def _printable(markup: Markup) -> list[Pair]:
    """Return pairs that conversations may have: a default system message lets a question begin."""
    begins = [(START, "user")] if markup.default_system is not None else []
    return [*begins, *markup.joints]


def _only(markup: Markup, pairs: Sequence[Pair]) -> Markup:
    return replace(markup, joints={pair: joint for pair, joint in markup.joints.items() if pair in pairs})


def _require(probes: Probes, markup: Markup, conversations: Sequence[Conversation]) -> None:
    """Refuse a markup on which a conversation does not hold, with the shortest such conversation."""
    broken = [messages for messages in conversations if not _holds(probes.template, markup, messages)]
    if broken:
        # The shortest is the one that a person can read.
        raise TemplateError(_sentence(probes.template, markup, min(broken, key=_size)))


def _holds(template: ChatTemplate, markup: Markup, messages: Conversation) -> bool:
    """Tell whether both print the same, up to an answer's end or with the prompt for one; a conversation refused by
    either holds."""
    return all(ours == theirs for ours, theirs in _printed(template, markup, messages))


def _printed(template: ChatTemplate, markup: Markup, messages: Conversation) -> Iterator[tuple[str, str]]:
    """Yield ours and theirs; after an answer, what the template prints beyond its terminator is nobody's."""
    answered = bool(messages) and messages[-1]["role"] == "assistant"
    try:
        ours = assemble_text(markup, messages, generation_prompt=not answered)
    except TemplateError:
        return
    try:
        theirs = template.render(messages, generation_prompt=not answered)
    except Refused:
        return
    yield ours, theirs[: len(ours)] if answered else theirs


def _plain(probes: Probes, pairs: Sequence[Pair]) -> list[Conversation]:
    """Return conversations of plain words whose neighbours are all among the pairs."""
    allowed = set(pairs)
    found = [roles for roles in sequences() if allowed.issuperset(pairs_of(roles)) and probes.seen(roles) is not None]
    return [messages for roles in found for messages in (probes.words(roles), _repeating(roles))]


def _repeating(roles: Roles) -> Conversation:
    """Make a conversation of the same words in every message, for templates that compare messages to know where they
    are."""
    return [{"role": role, "content": "ok"} for role in roles]


def _without_acting_tools(probes: Probes, markup: Markup) -> Markup:
    """Leave tool messages out where the template does not print their contents word for word."""
    if all(_holds(probes.template, markup, messages) for messages in _odd(probes, markup, ["tool"])):
        return markup
    return _only(markup, [pair for pair in markup.joints if "tool" not in pair])


def _odd(probes: Probes, markup: Markup, roles_told: Sequence[Role] = ROLES) -> list[Conversation]:
    """Make conversations of plain words but for one odd content, in every place between other neighbours."""
    contents = _contents(markup)
    places = [place for pair in markup.joints if pair[1] in roles_told for place in _shortest(probes, markup, pair)]
    tried = [(roles, place, content) for roles, place in places for content in contents]
    allowed, contents = set(_printable(markup)), [*contents, *_looked_for(probes.template)]
    for roles in [roles for roles in _DIALOGUES if allowed.issuperset(pairs_of(roles)) and probes.seen(roles)][:2]:
        told = [place for place, role in enumerate(roles) if role in roles_told]
        tried += [(roles, place, content) for place in told for content in contents]
    found: list[Conversation] = []
    for roles, place, content in dict.fromkeys(tried):
        messages = probes.words(roles)
        messages[place]["content"] = content
        found.append(messages)
    return [messages for messages in found if not _blank_in_filled(markup, messages)]


def _shortest(probes: Probes, markup: Markup, pair: Pair) -> Iterator[tuple[Roles, int]]:
    """Yield the shortest sequences with the pair that the markup prints: at their end, and with a message after it."""
    allowed = set(_printable(markup))
    return islice((found for found in probes.where(pair) if allowed.issuperset(pairs_of(found[0]))), 3)


def _mixed(probes: Probes, markup: Markup) -> list[Conversation]:
    """Return conversations of odd contents only, in drawn order."""
    contents = [*_contents(markup), *_looked_for(probes.template)]
    shapes = [tuple(message["role"] for message in messages) for messages in samples(probes, markup)]
    # Drawn by our own numbers: every process must try the same conversations, or one would accept what another refuses.
    draws = splitmix64(np.arange(_MIXED * 16, dtype=np.uint64)).reshape(_MIXED, 16) >> np.uint64(16)
    found: list[Conversation] = []
    for row in draws.tolist():
        roles = shapes[row[0] % len(shapes)]
        drawn = zip(roles, row[1:], strict=False)
        found.append([{"role": role, "content": contents[draw % len(contents)]} for role, draw in drawn])
    return [messages for messages in found if not _blank_in_filled(markup, messages)]


def _looked_for(template: ChatTemplate) -> list[str]:
    """Return the strings of a template that it may look for in contents: those that are no plain words, and words it
    asks for."""
    texts = {text.strip() for text in literals(template.text) if len(text) <= _LONGEST_LITERAL}
    asked = {match.group(2).strip() for match in _ASKED.finditer(template.text)}
    tags = sorted(text for text in texts if len(text) > 2 and (text in asked or not text.replace("_", "").isalnum()))
    return [*tags, *(f"a {text} b\n" for text in tags)]


def _contents(markup: Markup) -> list[str]:
    """Return texts that a template might take for more than text, its own tags among them."""
    listed = json.loads(resources.files(__package__).joinpath("odd_contents.json").read_bytes())
    own = {text.strip() for joint in markup.joints.values() for text in (joint.footer, joint.header)}
    own |= {markup.terminator.strip(), markup.answer_prefix.strip(), markup.default_system or ""}
    return [*listed, *sorted(own - {""}), *sorted(f"a {text} b\n" for text in own - {""})]


def _blank_in_filled(markup: Markup, messages: Conversation) -> bool:
    return any(message["role"] in markup.filled and not message["content"].strip() for message in messages)


def _pairs(messages: Conversation) -> list[Pair]:
    return pairs_of([message["role"] for message in messages])


def _size(messages: Conversation) -> tuple[int, int]:
    return len(messages), sum(len(message["content"]) for message in messages)


def _sentence(template: ChatTemplate, markup: Markup, messages: Conversation) -> str:
    ours, theirs = next((ours, theirs) for ours, theirs in _printed(template, markup, messages) if ours != theirs)
    place = next(
        (place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    start = max(0, place - 30)
    talk = ", ".join(f"{message['role']} {message['content'][:60]!r}" for message in messages)
    return (
        f"{CANNOT}what it prints around a message depends on more than the messages beside it. For the conversation "
        f"{talk} it prints {theirs[start : place + 30]!r} where shorter ones show {ours[start : place + 30]!r}; "
        "use the template kind chatml or plain, or set its `variables` so that it does not"
    )
