"""What filters have in common that judge each answer that a conversation trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from orca_recipes.contract.kinds import Filter
from orca_recipes.contract.messages import flat_messages

if TYPE_CHECKING:
    import polars as pl


class AnswerFilter(Filter, ABC):
    """Judge each trained answer of a conversation: reject the conversation, or leave the answer untrained as
    context."""

    action: Annotated[
        Literal["reject", "untrain"],
        Field(
            description="reject: a conversation with an answer that is found is rejected; untrain: that answer stays "
            "as context, and a conversation without another trained answer is rejected"
        ),
    ] = "reject"

    @abstractmethod
    def found(self, *, told: pl.DataFrame) -> pl.Series:
        """Tell which answers are found: Boolean [answers], null for no; told: columns question, answer."""

    @abstractmethod
    def reason(self) -> str:
        """Word the reason, as one of an answer."""

    def identity(self) -> dict[str, Any]:
        """Leave the action out where it changes nothing, since older recipes have none."""
        told = super().identity()
        return told if self.action == "untrain" else {name: value for name, value in told.items() if name != "action"}

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        is_found = np.zeros(conversations.height, dtype=np.bool_)
        if self.action == "reject":
            told = exchanges(conversations)
            is_found[told["row"].filter(self._found(told)).to_numpy()] = True
        return pl.select(pl.when(pl.Series(is_found)).then(pl.lit(self.reason()))).to_series()

    def turn_reasons(self, *, conversations: pl.DataFrame) -> pl.Series | None:
        import polars as pl

        if self.action == "reject":
            return None
        told = exchanges(conversations)
        nth = pl.int_range(pl.len()).over("row").alias("nth")
        found = told.select("row", nth).filter(self._found(told))
        flat = flat_messages(conversations["messages"]).select(
            "row",
            pl.int_range(pl.len()).over("row").alias("place"),
            trained=pl.col("trained").fill_null(value=False) & (pl.col("role") == "assistant"),
        )
        places = flat.filter("trained").select("row", nth, "place")
        reasons: list[list[str | None] | None] = [None] * conversations.height
        lengths = conversations["messages"].list.len().to_list()
        for row, place in found.join(places, on=["row", "nth"]).select("row", "place").iter_rows():
            mine = reasons[row] or [None] * lengths[row]
            mine[place] = self.reason()
            reasons[row] = mine
        return pl.Series("reasons", reasons, dtype=pl.List(pl.String))

    def _found(self, told: pl.DataFrame) -> pl.Series:
        return self.found(told=told).fill_null(value=False)


def exchanges(conversations: pl.DataFrame) -> pl.DataFrame:
    """List question and answer of each conversation; of one that trains several answers, or brings its own turns, each
    trained answer with the user's turn before it.

    Args:
        conversations: columns of `frames.CONVERSATIONS`.
    Returns: row (UInt32, the conversation's position, rising), question, answer (String).
    """
    import polars as pl

    said = pl.element().struct
    is_trained = said.field("trained").fill_null(value=False) & (said.field("role") == "assistant")
    answers = conversations.select(pl.col("messages").list.eval(is_trained).list.sum().fill_null(0))["messages"]
    several = (answers > 1) | (conversations["question"].is_null() & (answers == 1))
    told = conversations.select("question", "answer").with_row_index("row")
    if not several.any():
        return told
    flat = flat_messages(conversations["messages"].set(~several, None))
    users = pl.when(pl.col("role") == "user").then("content").forward_fill().over("row")
    turns = flat.with_columns(users.alias("question")).filter((pl.col("role") == "assistant") & pl.col("trained"))
    turns = turns.select("row", "question", answer="content").cast({"row": pl.UInt32})
    return pl.concat([told.filter(~several), turns]).sort("row", maintain_order=True)
