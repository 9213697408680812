"""Answers that say the question again.

Only the whole question counts: an explanation may well quote a piece of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from orca_plugins.filters._answers import AnswerFilter

if TYPE_CHECKING:
    import polars as pl


class ContainsPrompt(AnswerFilter):
    """Reject answers that hold the whole question, whatever its letter case and white space.

        [[datasets.main.filters]]
        kind = "contains_prompt"
        min_words = 8

    Each answer that a conversation trains is held against the user's turn before it; with `action = "untrain"` one that
    is found stays as context. Questions of fewer words than
    `min_words` are not looked for: short ones stand in good answers by chance.
    """

    kind: Literal["contains_prompt"] = "contains_prompt"
    revision: ClassVar[int] = 2
    min_words: Annotated[int, Field(gt=0, description="fewest words of a question that is looked for")] = 8

    def reason(self) -> str:
        return "it repeats the question"

    def found(self, *, told: pl.DataFrame) -> pl.Series:
        import polars as pl

        said = told.select(question=_plain(pl.col("question")), answer=_plain(pl.col("answer")))
        long = pl.col("question").str.count_matches(" ", literal=True) + 1 >= self.min_words
        again = long & pl.col("answer").str.contains(pl.col("question"), literal=True)
        return said.select(found=again)["found"]


def _plain(text: pl.Expr) -> pl.Expr:
    """Lower case, one space between words."""
    return text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" ")
