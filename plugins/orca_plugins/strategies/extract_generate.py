"""Extract, then generate: the teacher picks the passages of a given text that matter, then answers from them."""

from typing import Literal

from orca_plugins.strategies._instructing import Instructing


class ExtractGenerate(Instructing):
    """Ask for the passages that matter, then the answer.

        [strategies.extract-generate]
        kind = "extract_generate"

    The words are our own. Source of the strategy: Mitra et al. 2023 (Orca 2), arXiv:2311.11045, section 3.
    """

    kind: Literal["extract_generate"] = "extract_generate"
