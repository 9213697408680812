"""Answered examples of the same task stand before the question, as turns that were spoken already.

The shots are part of what the student learns to read, so erasing the prompt leaves them; it takes away only the system
message. They come with the examples (column `shots`), drawn by the core out of what the mixture drew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from orca_recipes.contract.kinds import Strategy
from orca_recipes.contract.messages import Turn, conversations_of, heading

if TYPE_CHECKING:
    import polars as pl

# Shots stand in the question of every example: more of them would fill the row that must hold the example too.
_MOST = 16


class FewShot(Strategy):
    """Show answered examples of the same task under the same system message, never the question itself.

        [strategies.shown]
        kind = "few_shot"
        fewest = 3
        most = 5

    How many is drawn for each example. Rows that bring an answer or a system message keep them. An example whose task
    has too few others is rejected. Source: Mitra et al. 2023 (Orca 2), arXiv:2311.11045, section 4.
    """

    kind: Literal["few_shot"] = "few_shot"
    keeps_own_words: ClassVar[bool] = True
    fewest: Annotated[int, Field(ge=1, le=_MOST, description="examples shown at least")] = 3
    most: Annotated[int, Field(ge=1, le=_MOST, description="examples shown at most")] = 5

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.fewest > self.most:
            raise ValueError(f"fewest = {self.fewest} is above most = {self.most}")
        return self

    def columns(self) -> tuple[str, ...]:
        """Return none: shots are drawn for an example, and no part of its row."""
        return ()

    def shots(self) -> tuple[int, int]:
        return self.fewest, self.most

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        """Ask with system message, shots, question. A row that brings a conversation has no question to ask."""
        import polars as pl

        asked = conversations_of(list(self._asked(examples)))
        return pl.select(pl.when(examples["question"].is_not_null()).then(asked).alias("messages")).to_series()

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Build what was asked and the answer, which alone is trained."""
        import polars as pl

        answers = pl.select(pl.coalesce(examples["answer"], answers).alias("answer")).to_series()
        return conversations_of([*self._asked(examples), Turn("assistant", answers, trained=True)])

    def teach_whole(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Teach the same as `teach`, since no words of its own were asked."""
        return self.teach(examples=examples, answers=answers)

    def _asked(self, examples: pl.DataFrame) -> Iterator[Turn]:
        yield Turn("system", heading(examples["system"]))
        for place in range(self.most):
            shot = examples["shots"].list.get(place, null_on_oob=True).struct
            yield Turn("user", shot.field("question"))
            yield Turn("assistant", shot.field("answer"))
        yield Turn("user", examples["question"])
