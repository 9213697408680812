"""Answers by the reason for which their teacher stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import polars as pl


class Finish(Filter):
    """Keep answers whose finish reason is among `allowed`; by default, those that ended by themselves (`stop`).

        [[datasets.main.filters]]
        kind = "finish"
        allowed = ["stop"]

    Reference answers have no finish reason and are kept.
    """

    kind: Literal["finish"] = "finish"
    allowed: Annotated[
        tuple[str, ...],
        Field(min_length=1, strict=False, description="finish reasons that are kept"),
    ] = ("stop",)

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        reason = pl.col("finish_reason")
        cut = pl.when(reason == "length").then(pl.lit("not finished: cut by max_tokens"))
        told = cut.otherwise(pl.lit("not finished: another reason than those that are kept"))
        kept = reason.is_null() | reason.is_in(list(self.allowed))
        return conversations.select(found=pl.when(~kept).then(told))["found"]
