"""The teacher works the question out one step at a time, and the answer comes last."""

from typing import Literal

from orca_plugins.strategies._instructing import Instructing


class StepByStep(Instructing):
    """Ask for the reasoning one step at a time, then the answer.

        [strategies.step-by-step]
        kind = "step_by_step"

    The words are our own. Source of the strategy: Mitra et al. 2023 (Orca 2), arXiv:2311.11045, section 3.
    """

    kind: Literal["step_by_step"] = "step_by_step"
