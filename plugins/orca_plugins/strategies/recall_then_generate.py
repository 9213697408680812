"""Recall, then generate: the teacher recalls facts that bear on the question, then answers from them."""

from typing import Literal

from orca_plugins.strategies._instructing import Instructing


class RecallThenGenerate(Instructing):
    """Ask for the facts that bear on the question, then the answer.

        [strategies.recall-then-generate]
        kind = "recall_then_generate"

    The words are our own. Source of the strategy: Mitra et al. 2023 (Orca 2), arXiv:2311.11045, section 3.
    """

    kind: Literal["recall_then_generate"] = "recall_then_generate"
