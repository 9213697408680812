"""System messages behind the first message of a conversation, merged into one that stands first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.messages import flat_messages, lists_of

if TYPE_CHECKING:
    import polars as pl

_BETWEEN = "\n\n"
"""What stands between two system messages that are merged: an empty line."""


def merged_systems(rows: pl.DataFrame) -> pl.DataFrame:
    """Merge the system messages of rows in which one follows another message, into one message before all others.

    Their texts follow each other in the order of the messages, a system message of the row itself first; empty ones and
    repeats are left out.

    Args:
        rows: columns of `frames.ROWS`.
    """
    import polars as pl

    flat = flat_messages(rows["messages"]).with_row_index("at")
    row, system = flat["row"].to_numpy(), (flat["role"] == "system").fill_null(value=False).to_numpy()
    first = np.append(True, row[1:] != row[:-1])[: len(row)]
    merged = np.unique(row[system & ~first])
    if not len(merged):
        return rows
    own = rows.select(pl.col("system").alias("content")).with_row_index("row")[merged.tolist()]
    told = pl.concat([own.cast({"row": flat.schema["row"]}), flat.filter(pl.Series(system)).select("row", "content")])
    told = told.filter(pl.col("row").is_in(merged.tolist()) & (pl.col("content") != ""))
    texts = told.group_by("row", maintain_order=True).agg(
        pl.col("content").unique(maintain_order=True).str.join(_BETWEEN)
    )
    heads = texts.join(
        flat.filter(pl.Series(system)).group_by("row").agg(pl.col("trained").any()), on="row", how="left"
    ).with_columns(role=pl.lit("system"), at=pl.lit(-1))
    taken = pl.Series(system & np.isin(row, merged))
    kept = flat.filter(~taken).with_columns(pl.col("at").cast(pl.Int64))
    whole = pl.concat([heads.cast({"at": pl.Int64}), kept], how="diagonal").sort("row", "at")
    lengths = np.bincount(whole["row"].to_numpy(), minlength=rows.height)
    messages = lists_of(whole.select(flat.columns[2:]).to_struct(), lengths)
    is_merged = pl.Series(np.isin(np.arange(rows.height), merged))
    return rows.with_columns(
        messages=pl.when(pl.col("messages").is_null()).then(None).otherwise(pl.lit(messages)),
        system=pl.when(is_merged).then(None).otherwise("system"),
    )
