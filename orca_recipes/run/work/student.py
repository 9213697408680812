"""The student's side of a build: its resolved tokenizer, and its chat template taken apart and tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orca_recipes.contract.ending import Ending
from orca_recipes.contract.markup import Markup

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""The files of a resolved tokenizer."""


@dataclass(frozen=True)
class Student:
    """Tokenizer and markup that make the student's tokens.

    folder: the tokenizer as resolved. verdict: how the fast tokenizer fared against the reference.
    conformance: how training fared against inference on generated conversations.
    control: control tokens by text. size: of the vocabulary with added tokens. ending: the end of answers.
    """

    folder: Path
    markup: Markup
    size: int
    control: Mapping[str, int]
    bos: str | None
    pad: str | None
    eos: str | None
    verdict: str
    conformance: str
    ending: Ending

    @property
    def begins_with_bos(self) -> bool:
        """Tell whether inference's prompt begins with BOS."""
        if self.markup.rendering is not None:
            return self.markup.rendering.opens
        heads = [joint.header for (before, _), joint in self.markup.joints.items() if not before]
        return self.bos is not None and all(head.startswith(self.bos) for head in heads)
