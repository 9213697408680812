"""Conversations that are too long or too short, in characters.

Characters are Unicode code points: they need no tokenizer, and a limit means the same for every student.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import polars as pl


class Length(Filter):
    """Keep conversations whose number of characters lies within limits, both ends included.

        [[datasets.main.filters]]
        kind = "length"
        max_chars = 20_000
        min_answer_chars = 1

    A conversation counts all its messages together, an answer all that is trained on together.
    """

    kind: Literal["length"] = "length"
    min_chars: Annotated[int | None, Field(ge=0, description="fewest characters of all messages together")] = None
    max_chars: Annotated[int | None, Field(ge=0, description="most characters of all messages together")] = None
    min_answer_chars: Annotated[
        int | None, Field(ge=0, description="fewest characters of all trained messages together")
    ] = None
    max_answer_chars: Annotated[
        int | None, Field(ge=0, description="most characters of all trained messages together")
    ] = None

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        for low, high in (("min_chars", "max_chars"), ("min_answer_chars", "max_answer_chars")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} = {least} is above {high} = {most}, so nothing would be kept")
        return self

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        message = pl.element().struct
        chars = message.field("content").str.len_chars().cast(pl.Int64)
        whole = pl.col("messages").list.eval(chars).list.sum()
        answer = pl.col("messages").list.eval(chars.filter(message.field("trained"))).list.sum()
        broken = [
            *_outside(whole, least=self.min_chars, most=self.max_chars, what=""),
            *_outside(answer, least=self.min_answer_chars, most=self.max_answer_chars, what="answer "),
        ]
        reason = pl.coalesce(broken) if broken else pl.lit(None, dtype=pl.String)
        return conversations.select("messages", reason=reason)["reason"]


def _outside(chars: pl.Expr, *, least: int | None, most: int | None, what: str) -> Iterator[pl.Expr]:
    """A reason, or null, for each limit that is set."""
    import polars as pl

    if most is not None:
        yield pl.when(chars > most).then(pl.lit(f"{what}too long: more than {most} characters"))
    if least is not None:
        yield pl.when(chars < least).then(pl.lit(f"{what}too short: fewer than {least} characters"))
