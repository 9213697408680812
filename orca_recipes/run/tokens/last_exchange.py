"""Conversations of which the last answer alone is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def last_alone(conversations: pa.Table) -> pa.Table:
    """The conversations with every trained answer but the last as context."""
    import polars as pl

    column: Any = pl.from_arrow(conversations["messages"].combine_chunks())
    element = pl.element()
    trained = element.struct.field("trained") & (element.struct.field("role") == "assistant")
    later = trained.cast(pl.Int64).reverse().cum_sum().reverse()
    alone = column.list.eval(element.struct.with_fields(trained=trained & (later == 1)))
    place = conversations.column_names.index("messages")
    return conversations.set_column(place, "messages", alone.cast(column.dtype).rechunk().to_arrow())
