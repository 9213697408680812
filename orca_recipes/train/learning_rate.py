"""The learning rate of every step: a warm-up, then a curve, for one phase or for several joined ones.

A rate is a pure function of the step, so a resumed run needs no state to go on with it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from orca_recipes.errors import UserError

Curve = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True)
class Schedule:
    """A learning rate over time.

    learning_rate is the peak, reached after warmup_steps that rise linearly from zero; then the curve falls to
    final_learning_rate at the last step (constant stays at the peak). carried_on: the phase goes on with the schedule
    of the one before it, which then spans both, and nothing else of its own is used.
    """

    learning_rate: float
    curve: Curve = "cosine"
    warmup_steps: int = 0
    final_learning_rate: float = 0.0
    carried_on: bool = False

    def __post_init__(self) -> None:
        if self.curve not in get_args(Curve):
            raise UserError(f"there is no schedule {self.curve!r}: choose {', '.join(get_args(Curve))}")
        if not 0 <= self.final_learning_rate <= self.learning_rate or not math.isfinite(self.learning_rate):
            raise UserError(
                f"the learning rate goes from {self.learning_rate} to {self.final_learning_rate}: give two numbers "
                "from 0, the second not above the first"
            )
        if self.warmup_steps < 0:
            raise UserError(f"a warm-up of {self.warmup_steps} steps: give 0 or more")

    def rate(self, step: int, steps: int) -> float:
        """Compute the learning rate of one step, counted from 0, in a span of `steps` steps."""
        warmup = min(self.warmup_steps, steps)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        # The last step stands at the end of the curve; a span of one step has only a peak.
        passed = (step - warmup) / max(1, steps - warmup - 1)
        left = {"cosine": (1 + math.cos(math.pi * passed)) / 2, "linear": 1 - passed, "constant": 1.0}[self.curve]
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * max(left, 0.0)


@dataclass(frozen=True)
class Rates:
    """The learning rate of a whole run: each phase's schedule and number of steps, in order."""

    phases: Sequence[tuple[Schedule, int]]

    def at(self, step: int) -> float:
        """Compute the learning rate of a step, counted from 0 over the whole run.

        Raises: IndexError beyond the last step.
        """
        spans = self._spans()
        ends = list(accumulate(steps for _, steps in spans))
        place = bisect_right(ends, step)
        schedule, steps = spans[place]
        return schedule.rate(step - (ends[place] - steps), steps)

    def _spans(self) -> list[tuple[Schedule, int]]:
        """Return phases joined where one carries on the schedule of the phase before."""
        spans: list[tuple[Schedule, int]] = []
        for schedule, steps in self.phases:
            if schedule.carried_on and spans:
                spans[-1] = (spans[-1][0], spans[-1][1] + steps)
            else:
                spans.append((schedule, steps))
        return spans
