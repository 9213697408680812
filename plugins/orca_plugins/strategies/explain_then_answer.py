"""The teacher explains what decides the question before it answers."""

from typing import Literal

from orca_plugins.strategies._instructing import Instructing


class ExplainThenAnswer(Instructing):
    """Ask for an explanation first and the answer after it.

        [strategies.explain-then-answer]
        kind = "explain_then_answer"

    The words are our own. Source of the strategy: Mitra et al. 2023 (Orca 2), arXiv:2311.11045, section 3.
    """

    kind: Literal["explain_then_answer"] = "explain_then_answer"
