"""Conversations of which the last answer alone is trained, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def last_alone(conversations: pa.Table) -> pa.Table:
    """The conversations with every trained answer but the last as context."""
    import polars as pl

    element = pl.element()
    trained = element.struct.field("trained") & (element.struct.field("role") == "assistant")
    later = trained.cast(pl.Int64).reverse().cum_sum().reverse()
    return _with_marks(conversations, trained & (later == 1))


def without_trained(conversations: pa.Table) -> pa.Table:
    """The conversations with every answer as context."""
    import polars as pl

    return _with_marks(conversations, pl.lit(value=False))


def _with_marks(conversations: pa.Table, marks: pl.Expr) -> pa.Table:
    import polars as pl

    column: Any = pl.from_arrow(conversations["messages"].combine_chunks())
    alone = column.list.eval(pl.element().struct.with_fields(trained=marks))
    place = conversations.column_names.index("messages")
    return conversations.set_column(place, "messages", alone.cast(column.dtype).rechunk().to_arrow())
