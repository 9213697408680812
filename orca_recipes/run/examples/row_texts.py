"""Texts that a row brings: what its users say, and its system message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def users_words(messages: pl.Series) -> pl.Series:
    """Join the users' turns of each conversation to one text: String [rows], null without messages."""
    import polars as pl

    said = pl.element().struct
    users = said.field("content").filter(said.field("role") == "user")
    return messages.alias("m").to_frame().select(pl.col("m").list.eval(users).list.join("\n"))["m"]


def brought_systems(rows: pl.DataFrame) -> pl.Series:
    """Take the system message that each row brings, null where there is none. rows: columns system and messages."""
    import polars as pl

    first = pl.col("messages").list.first().struct
    head = pl.when(first.field("role") == "system").then(first.field("content"))
    return rows.select(system=pl.coalesce("system", head))["system"]
