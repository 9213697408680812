"""A chat template taken apart: the texts that stand before, between and after messages.

Nearly every chat template prints each message's content word for word, and what it prints in between depends only on
the roles on both sides. Held as data, a template costs nothing a record, can be pinned in a lock, and its mask is
known rather than guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca_recipes.contract.rendering import Rendering, rendering_from_json
from orca_recipes.errors import TemplateError

Role = str
START = ""
"""Stands for "before the first message" where a role is asked for."""


@dataclass(frozen=True)
class Joint:
    """The text a template prints between two messages, split into footer and header.

    footer belongs to the message before (for an assistant: what follows the terminator), header to the one after.
    Both may hold control tokens; everything else in them is plain text.
    """

    footer: str
    header: str


@dataclass(frozen=True)
class Markup:
    """One chat template as data.

    joints: (role before or START, role after) to the text between. A pair that is missing cannot be rendered by joints.
        For a pair that ends in "assistant" the header is exactly the generation prompt of inference.
    answer_prefix: what the template prints between the generation prompt and a trained answer (trained with it).
    terminator: what ends an answer, trained, through its last control token; there may be several, and text between.
    default_system: content that the template puts in where a conversation has no system message, as a message of
        its own; None where it puts nothing.
    trimmed: roles whose content the template strips of white space at both ends, as `str.strip()` does.
    unstripped: pairs (role before, trimmed role) where white space at the left of the content stays nevertheless,
        because the template strips the two messages as one (Llama 2: system and first user message).
    filled: roles whose content must hold more than white space: the template prints a blank one in another way, so a
        conversation that holds one cannot be rendered.
    chat_template: jinja text that renders the same, shipped with the build for inference.
    rendering: how the jinja text renders conversations that the joints do not, one at a time; None where the joints are
        all that there is.
    """

    joints: Mapping[tuple[Role, Role], Joint]
    terminator: str
    chat_template: str
    answer_prefix: str = ""
    default_system: str | None = None
    trimmed: frozenset[Role] = field(default_factory=frozenset)
    unstripped: frozenset[tuple[Role, Role]] = field(default_factory=frozenset)
    filled: frozenset[Role] = field(default_factory=frozenset)
    rendering: Rendering | None = None

    def as_json(self) -> dict[str, object]:
        """Return the markup as JSON values, for locks and fingerprints."""
        return {
            "joints": {
                f"{before}>{after}": [joint.footer, joint.header]
                for (before, after), joint in sorted(self.joints.items())
            },
            "terminator": self.terminator,
            "chat_template": self.chat_template,
            "answer_prefix": self.answer_prefix,
            "default_system": self.default_system,
            "trimmed": sorted(self.trimmed),
            "unstripped": sorted(f"{before}>{after}" for before, after in self.unstripped),
            "filled": sorted(self.filled),
            **({"rendering": self.rendering.as_json()} if self.rendering is not None else {}),
        }


def markup_from_json(values: Mapping[str, Any]) -> Markup:
    """Read a markup back from `as_json`."""
    return Markup(
        joints={_pair(pair): Joint(footer, header) for pair, (footer, header) in values["joints"].items()},
        terminator=values["terminator"],
        chat_template=values["chat_template"],
        answer_prefix=values["answer_prefix"],
        default_system=values["default_system"],
        trimmed=frozenset(values["trimmed"]),
        unstripped=frozenset(_pair(pair) for pair in values["unstripped"]),
        filled=frozenset(values["filled"]),
        rendering=rendering_from_json(values["rendering"]) if "rendering" in values else None,
    )


def assemble_text(markup: Markup, messages: Sequence[Mapping[str, str]], *, generation_prompt: bool = False) -> str:
    """Assemble one conversation as text, piece by piece: slow and obvious, the yardstick for what is fast.

    Args:
        messages: role and content of each, oldest first.
        generation_prompt: end with what inference prints before an answer, rather than with the last message.
    Returns: the text up to the last message; after an answer, up to and including its terminator.
    Raises: TemplateError where the markup has no such conversation.
    """
    text, before = "", START
    for message in _with_default_system(markup, messages):
        role, content = message["role"], _content(markup, before, message)
        joint = _joint(markup, before, role)
        text += joint.footer + joint.header
        text += markup.answer_prefix + content + markup.terminator if role == "assistant" else content
        before = role
    if generation_prompt:
        joint = _joint(markup, before, "assistant")
        text += joint.footer + joint.header
    return text


def _pair(text: str) -> tuple[Role, Role]:
    before, _, after = text.partition(">")
    return before, after


def _with_default_system(markup: Markup, messages: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    if markup.default_system is None or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": markup.default_system}, *messages]


def _joint(markup: Markup, before: Role, after: Role) -> Joint:
    joint = markup.joints.get((before, after))
    if joint is None:
        where = f"after one of role {before}" if before != START else "at the start"
        raise TemplateError(f"the template cannot print a message of role {after} {where}")
    return joint


def _content(markup: Markup, before: Role, message: Mapping[str, str]) -> str:
    role, content = message["role"], message["content"]
    if role in markup.filled and not content.strip():
        raise TemplateError(f"the template cannot print a blank message of role {role}")
    if role not in markup.trimmed:
        return content
    return content.rstrip() if (before, role) in markup.unstripped else content.strip()
