"""The teacher recalls, reasons over what it recalled, then answers."""

from typing import Literal

from orca_plugins.strategies._instructing import Instructing


class RecallReasonGenerate(Instructing):
    """Ask for the facts that bear on the question, for reasoning over them, then the answer.

        [strategies.recall-reason-generate]
        kind = "recall_reason_generate"

    The words are our own. Source of the strategy: Mitra et al. 2023 (Orca 2), arXiv:2311.11045, section 3.
    """

    kind: Literal["recall_reason_generate"] = "recall_reason_generate"
