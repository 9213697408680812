"""A template taken apart: texts between neighbours, the end of an answer, the default system message, trimming.

Everything is read off the shortest conversation that shows it. Whether that holds for longer ones, and for contents
that are no plain words, is another question, which `proof` answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from orca_plugins.templates.from_tokenizer.probe_renders import ROLES, Pair, Probes, Roles
from orca_plugins.templates.from_tokenizer.sandbox import Message, Refused
from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import START, Joint, Markup, Role, assemble_text
from orca_recipes.errors import TemplateError

_LEFT, _RIGHT = "\n  ", "  \n"
_BLANK = ("", " \n")
CANNOT = "the tokenizer's chat template cannot be taken apart: "


def take_apart(probes: Probes, vocabulary: Vocabulary) -> Markup:
    """Derive the markup of plain words from the shortest conversations, with every pair of roles that the template
    prints.

    Raises: TemplateError where a dialogue is not printed message by message, or an answer has no end to learn.
    """
    _check_dialogue(probes)
    terminator = _terminator(probes, vocabulary)
    joints: dict[Pair, Joint] = {}
    prefixes: dict[Role, str] = {}
    for before in (START, *ROLES):
        for after in ROLES:
            found = _joint(probes, (before, after), terminator)
            if found is not None:
                joints[before, after], prefix = found
                if after == "assistant":
                    prefixes[before] = prefix
    answer_prefix = _answer_prefix(probes, prefixes)
    kept = {
        pair: joint
        for pair, joint in joints.items()
        if prefixes.get(pair[0]) == answer_prefix or pair[1] != "assistant"
    }
    return Markup(joints=kept, terminator=terminator, chat_template="", answer_prefix=answer_prefix)


def with_contents(probes: Probes, markup: Markup, vocabulary: Vocabulary) -> Markup:
    """Add to the markup what the template does to contents at their ends, to blank ones, and to a missing system
    message.

    Raises: TemplateError where it strips contents in a way that a markup cannot say.
    """
    markup = _with_trimming(probes, markup)
    markup = replace(markup, filled=frozenset(_filled(probes, markup)))
    return _with_default_system(markup, vocabulary)


def _check_dialogue(probes: Probes) -> None:
    seen = probes.seen(("user", "assistant"))
    if seen is None:
        words = probes.refusals["user", "assistant"]
        raise TemplateError(f"{CANNOT}it refuses a question with its answer ({words})")
    if seen.around is None:
        raise TemplateError(f"{CANNOT}it does not print a question and its answer once each, in their order")


def _terminator(probes: Probes, vocabulary: Vocabulary) -> str:
    """Return the text after an answer, through its last control token before the header of the next message.

    The same must be printed where the answer ends the conversation and where a question follows it: what both share at
    their start is the answer's; white space behind its last control token belongs to nobody.
    """
    after = _around(probes, ("user", "assistant"))[-1]
    ends = _control_ends(after, vocabulary)
    if not ends:
        raise TemplateError(
            f"{CANNOT}after an answer that ends the conversation it prints {after!r}, which holds no control token, so "
            "that a student would not learn to stop; use the template kind plain or chatml"
        )
    seen = probes.seen(("user", "assistant", "user"))
    if not seen or not seen.around:
        return after[: ends[-1]]
    before_question = seen.around[2]
    shared = [end for end in ends if before_question.startswith(after[:end])]
    if not shared:
        raise TemplateError(
            f"{CANNOT}it ends an answer by {after[: ends[0]]!r} at the end of a conversation, and by "
            f"{before_question!r} before another question, so that a student would learn two ends; use the template "
            "kind chatml or plain"
        )
    return after[: shared[-1]]


def _control_ends(text: str, vocabulary: Vocabulary) -> list[int]:
    """List the ends of the control tokens in a text, in order."""
    # Else a token that begins another would match in its place.
    longest_first = sorted(vocabulary.control, key=lambda text: (-len(text), text))
    return [match.end() for match in re.finditer("|".join(map(re.escape, longest_first)) or "(?!)", text)]


def _joint(probes: Probes, pair: Pair, terminator: str) -> tuple[Joint, str] | None:
    """Derive the joint of two neighbours and, for an answer, the text between the prompt and it; None where the
    template shows none."""
    for roles, place in probes.where(pair):
        between, context = _around(probes, roles)[place], roles[:place]
        ending = terminator if pair[0] == "assistant" else ""
        if not between.startswith(ending):
            return None
        before = probes.seen(context)
        tail = before.around[-1] if before and before.around and place else ""
        if pair[1] != "assistant":
            return _split(between, tail, ending), ""
        prompt = before.prompt if before else None
        if prompt is not None and between.startswith(prompt) and prompt.startswith(ending):
            return _split(prompt, tail, ending), between[len(prompt) :]
    return None


def _split(between: str, tail: str, ending: str) -> Joint:
    """Split the text between two messages: the footer is printed after the first in any case, the rest is the next
    one's header."""
    cut = len(tail) if between.startswith(tail) and tail.startswith(ending) else len(ending)
    return Joint(footer=between[len(ending) : cut], header=between[cut:])


def _answer_prefix(probes: Probes, prefixes: Mapping[Role, str]) -> str:
    if "user" in prefixes:
        return prefixes["user"]
    asked = probes.seen(("user",))
    prompt = asked.prompt if asked else None
    between = _around(probes, ("user", "assistant"))[1]
    if prompt is None:
        raise TemplateError(f"{CANNOT}it does not print a prompt for an answer to a question")
    raise TemplateError(f"{CANNOT}it asks for an answer by {prompt!r} and prints {between!r} before a given one")


@dataclass
class _Edges:
    """White space beside a role's contents, on each side: kept (True) or stripped (False)."""

    left: dict[Pair, bool] = field(default_factory=dict)
    right: set[bool] = field(default_factory=set)
    odd: bool = False


def _with_trimming(probes: Probes, markup: Markup) -> Markup:
    trimmed, unstripped, joints = set(), set(), dict(markup.joints)
    for role in ROLES:
        edges = _edges(probes, markup, role)
        kept_left = {pair for pair, kept in edges.left.items() if kept}
        if edges.right == {False} and not edges.odd:
            trimmed.add(role)
            unstripped |= kept_left
        elif edges.odd or len(edges.right) > 1 or len(kept_left) < len(edges.left):
            if role != "tool" and (role != "system" or (START, role) in joints):
                raise TemplateError(f"{CANNOT}it strips the {role}'s messages at one end only, or in some places only")
            joints = {pair: joint for pair, joint in joints.items() if role not in pair}
    return replace(markup, joints=joints, trimmed=frozenset(trimmed), unstripped=frozenset(unstripped))


def _edges(probes: Probes, markup: Markup, role: Role) -> _Edges:
    edges = _Edges()
    for pair in markup.joints:
        if role not in pair:
            continue
        for roles, second in islice(probes.where(pair), 1):
            place = second if pair[1] == role else second - 1
            before, after = _padded(probes, roles, place)
            around = _around(probes, roles)
            left = {around[place] + _LEFT: True, around[place]: False}.get(before)
            right = {_RIGHT + around[place + 1]: True, around[place + 1]: False}.get(after)
            edges.odd |= left is None or right is None
            edges.left[roles[place - 1] if place else START, role] = bool(left)
            edges.right.add(bool(right))
    return edges


def _padded(probes: Probes, roles: Roles, place: int) -> tuple[str, str]:
    """Render one content padded with white space among plain words, and return the text before and after it."""
    messages = probes.words(roles)
    word = messages[place]["content"]
    messages[place]["content"] = _LEFT + word + _RIGHT
    try:
        text = probes.template.render(messages)
    except Refused:
        # No template prints this, so both edges come out as odd.
        return "\0", "\0"
    start = text.find(messages[place - 1]["content"]) + len(messages[place - 1]["content"]) if place else 0
    stop = text.find(messages[place + 1]["content"]) if place + 1 < len(messages) else len(text)
    before, _, after = text[start:stop].partition(word)
    return before, after


def _filled(probes: Probes, markup: Markup) -> Iterator[Role]:
    """Yield roles whose blank messages are not printed as others are."""
    for role in ROLES:
        if not all(_is_printed(probes, markup, messages) for messages in _blank(probes, markup, role)):
            yield role


def _blank(probes: Probes, markup: Markup, role: Role) -> Iterator[Sequence[Message]]:
    for pair in markup.joints:
        if pair[1] != role:
            continue
        for roles, place in islice(probes.where(pair), 4):
            for blank in _BLANK:
                messages = probes.words(roles)
                messages[place]["content"] = blank
                yield messages


def _is_printed(probes: Probes, markup: Markup, messages: Sequence[Message]) -> bool:
    try:
        expected = assemble_text(markup, messages)
    except TemplateError:
        return True  # a pair that is not in the markup: such a conversation is refused anyway
    try:
        return probes.template.render(messages).startswith(expected)
    except Refused:
        return False


def _with_default_system(markup: Markup, vocabulary: Vocabulary) -> Markup:
    """Name the default system message, where the template puts one in as a message of its own.

    One that cannot be such (it holds control tokens, or would be trimmed) stays what stands at the start.
    """
    begins, follows = markup.joints.get((START, "system")), markup.joints.get(("system", "user"))
    bare = markup.joints.get((START, "user"))
    if begins is None or follows is None or bare is None:
        return markup
    head, foot = begins.header, follows.footer + follows.header
    default = bare.header[len(head) : len(bare.header) - len(foot)]
    if not default or bare.header != head + default + foot or any(text in default for text in vocabulary.control):
        return markup
    if "system" in markup.trimmed | markup.filled and default != default.strip():
        return markup
    others = {pair: joint for pair, joint in markup.joints.items() if pair[0] == START and pair[1] != "system"}
    for (_, role), joint in others.items():
        after = markup.joints.get(("system", role))
        if after is None or joint.header != head + default + after.footer + after.header:
            return markup
    joints = {pair: joint for pair, joint in markup.joints.items() if pair not in others}
    return replace(markup, joints=joints, default_system=default)


def _around(probes: Probes, roles: Roles) -> tuple[str, ...]:
    seen = probes.seen(roles)
    assert seen is not None
    assert seen.around is not None
    return seen.around
