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
    repeats are left out. A name that all of them have stays; rows in which they differ in it are left as they are.

    Args:
        rows: columns of `frames.ROWS`.
    """
    import polars as pl

    flat = flat_messages(rows["messages"]).with_row_index("at")
    row, system = flat["row"].to_numpy(), (flat["role"] == "system").fill_null(value=False).to_numpy()
    first = np.append(True, row[1:] != row[:-1])[: len(row)]
    merged = np.setdiff1d(row[system & ~first], _of_several_names(rows, flat.filter(pl.Series(system))))
    if not len(merged):
        return rows
    own = rows.select(pl.col("system").alias("content")).with_row_index("row")[merged.tolist()]
    told = pl.concat([own.cast({"row": flat.schema["row"]}), flat.filter(pl.Series(system)).select("row", "content")])
    told = told.filter(pl.col("row").is_in(merged.tolist()) & (pl.col("content") != ""))
    texts = told.group_by("row", maintain_order=True).agg(
        pl.col("content").unique(maintain_order=True).str.join(_BETWEEN)
    )
    heads = texts.join(
        flat.filter(pl.Series(system)).group_by("row").agg(pl.col("trained").any(), pl.col("name").first()),
        on="row",
        how="left",
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


def _of_several_names(rows: pl.DataFrame, systems: pl.DataFrame) -> np.ndarray:
    """Find the rows whose system messages differ in their name, of which the row's own has none: integers [rows]."""
    import polars as pl

    if systems["name"].null_count() == systems.height:
        return np.empty(0, dtype=np.uint32)
    own = (rows["system"].str.len_bytes() > 0).fill_null(value=False).gather(systems["row"])
    found = (
        systems.with_columns(own=own)
        .group_by("row")
        .agg(several=(pl.col("name").n_unique() > 1) | (pl.col("own").any() & pl.col("name").is_not_null().any()))
    )
    return found.filter("several")["row"].to_numpy()
