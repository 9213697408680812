"""Answers that go in circles, as models do when they lose the thread.

The measure is that of Rae et al. 2021 (Gopher), appendix A.1: the share of a text's words that stand in a run of words
which the text holds more than once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from orca_plugins.filters._answers import AnswerFilter

if TYPE_CHECKING:
    import polars as pl


class Repetition(AnswerFilter):
    """Reject answers in which more than `max_share` of the words lie in repeated runs of `run_words` words.

        [[datasets.main.filters]]
        kind = "repetition"
        run_words = 6
        max_share = 0.5
        min_words = 30

    Each answer that a conversation trains is looked at; with `action = "untrain"` one that is found stays as context.
    Those shorter than `min_words` are kept: in short ones a
    repeated phrase weighs too much.
    """

    kind: Literal["repetition"] = "repetition"
    revision: ClassVar[int] = 2
    run_words: Annotated[int, Field(ge=2, description="words of a run")] = 6
    max_share: Annotated[float, Field(ge=0, le=1, description="largest share of repeated words that is kept")] = 0.5
    min_words: Annotated[int, Field(ge=1, description="fewest words of an answer that is judged")] = 30

    def reason(self) -> str:
        return "it repeats itself"

    def found(self, *, told: pl.DataFrame) -> pl.Series:
        import polars as pl

        # Words split by polars, runs counted answer by answer: some 20 microseconds each.
        words = told["answer"].fill_null("").str.to_lowercase().str.extract_all(r"\S+")
        repeated = [
            len(row) >= self.min_words and repeated_share(row, self.run_words) > self.max_share
            for row in words.to_list()
        ]
        return pl.Series("found", repeated, dtype=pl.Boolean)


def repeated_share(words: list[str], run_words: int) -> float:
    """Compute the share of words, 0 to 1, in runs of `run_words` words that occur more than once."""
    places: dict[tuple[str, ...], list[int]] = {}
    for start in range(len(words) - run_words + 1):
        places.setdefault(tuple(words[start : start + run_words]), []).append(start)
    repeated = np.zeros(len(words), dtype=bool)
    for starts in places.values():
        if len(starts) > 1:
            for start in starts:
                repeated[start : start + run_words] = True
    return float(repeated.mean()) if words else 0.0
