"""Growth of conversations in examples and tokens if each turn has an example of its own.

A conversation of n turns has about n/2 times its own tokens then: that is counted, and beyond a limit refused, so that
no long trajectory becomes a dataset of its own unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.counted import counted
from orca_recipes.errors import TemplateError
from orca_recipes.run.renderers.student_renderer import Made

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Expansion:
    """Counts of each conversation that gave examples, int64 [conversations]: its examples, their tokens, and the tokens
    of the conversation read once (its last example, and what earlier ones train).
    of the conversation as it is read once: its last example, and what earlier ones train."""

    owners: np.ndarray
    examples: np.ndarray
    tokens: np.ndarray
    once: np.ndarray

    @classmethod
    def of(cls, made: Made) -> Expansion:
        sizes, trained = np.diff(made.rendered.example_starts), made.rendered.trained_tokens
        there = np.flatnonzero(sizes)
        owners, place = np.unique(made.owner[there], return_inverse=True)
        is_last = np.append(place[1:] != place[:-1], True)[: len(place)]
        once = np.where(is_last, sizes[there], trained[there])
        examples, tokens, read = (
            np.bincount(place, weights=column, minlength=len(owners)).astype(np.int64)
            for column in (np.ones(len(there)), sizes[there], once)
        )
        return cls(owners, examples, tokens, read)

    def check(self, conversations: pa.Table, *, limit: float) -> None:
        """Raises: TemplateError for the first conversation whose examples have too many times its tokens."""
        over = np.flatnonzero(self.tokens > limit * self.once)
        if not len(over):
            return
        at = int(over[0])
        file, place = (conversations[name][int(self.owners[at])].as_py() for name in ("file", "place"))
        raise TemplateError(
            f"{file}:{place}: its {counted(int(self.examples[at]), 'turn')} have an example each, because the chat "
            f"template prints earlier turns otherwise than they were trained: {int(self.tokens[at]):,} tokens of a "
            f"conversation of {int(self.once[at]):,}, {self.tokens[at] / self.once[at]:.0f} times as many, and "
            f'expansion_limit is {limit:g}; set history = "kept" or history = "last" in [template], or raise '
            "expansion_limit there"
        )

    def counts(self) -> dict[str, int]:
        """Sum the conversations, their tokens read once, their examples, and the tokens of these."""
        return {
            "conversations": len(self.owners),
            "tokens": int(self.once.sum()),
            "examples": int(self.examples.sum()),
            "example_tokens": int(self.tokens.sum()),
        }
