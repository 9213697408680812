"""A run's position in its data, as kept in a checkpoint.

Rows are what is counted: with the order of a phase computed from its position, two integers say exactly what was
trained on, whatever the batch size before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Position:
    """step: taken in all. phase: the one it is in, from 1; one more than there are at the end. row: done of it."""

    step: int
    phase: int
    row: int = 0

    def as_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Position:
        """Restore the result of `as_json`; a checkpoint never trained is at the beginning."""
        return cls(**found) if found else cls(step=0, phase=1)
