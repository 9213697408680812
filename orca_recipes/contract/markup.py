"""A chat template taken apart: the texts that stand before, between and after messages.

Nearly every chat template prints each message's content word for word, and what it prints in between depends only on
the roles on both sides. Held as data, a template costs nothing a record, can be pinned in a lock, and its mask is
known rather than guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Role = str
START = ""
"""Stands for "before the first message" where a role is asked for."""


@dataclass(frozen=True)
class Joint:
    """What a template prints between two messages.

    footer belongs to the message before (for an assistant: what follows the terminator), header to the one after.
    Both may hold control tokens; everything else in them is plain text.
    """

    footer: str
    header: str


@dataclass(frozen=True)
class Markup:
    """One chat template as data.

    joints: (role before or START, role after) to the text between. A pair that is missing cannot be rendered.
        For a pair that ends in "assistant" the header is exactly the generation prompt of inference.
    answer_prefix: what the template prints between the generation prompt and a trained answer (trained with it).
    terminator: what ends an answer, trained; ends with its one control token.
    default_system: content that the template puts in where a conversation has no system message, as a message of
        its own; None where it puts nothing.
    trimmed: roles whose content the template strips of white space at both ends.
    chat_template: jinja text that renders the same, shipped with the build for inference.
    """

    joints: Mapping[tuple[Role, Role], Joint]
    terminator: str
    chat_template: str
    answer_prefix: str = ""
    default_system: str | None = None
    trimmed: frozenset[Role] = field(default_factory=frozenset)

    def as_json(self) -> dict[str, object]:
        """The markup as JSON values, for locks and fingerprints."""
        return {
            "joints": {f"{before}>{after}": [joint.footer, joint.header] for (before, after), joint in sorted(self.joints.items())},
            "terminator": self.terminator,
            "chat_template": self.chat_template,
            "answer_prefix": self.answer_prefix,
            "default_system": self.default_system,
            "trimmed": sorted(self.trimmed),
        }
