"""What makes an example the same example: its row's own id, else its content and its number among equals.

Digests are taken part by part; which of equal rows is which is told once all parts are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import canonical, splitmix64, text_digests
from orca_recipes.run.arrow import string_buffers

if TYPE_CHECKING:
    import polars as pl

TAKEN = (
    None,
    "id: an earlier row has the same id and the same content",
    "id: an earlier row has the same id and other content",
)
FREE, _AGAIN, CONTRADICTED = range(3)
"""Whether a row's id is taken, as places in TAKEN."""


def with_identity(rows: pl.DataFrame, collection: str) -> pl.DataFrame:
    """Rows with the digest of what each is known by: its own id, else its content; and of its content beside an id."""
    import polars as pl

    lists = {
        "references": _texts_of_lists(rows["references"], pl.col("references")),
        "options": _texts_of_lists(rows["options"], pl.col("options")),
        "extra": _texts_of_lists(
            rows["extra"], pl.col("extra").struct.field("name"), pl.col("extra").struct.field("value")
        ),
        "messages": _texts_of_lists(
            rows["messages"],
            pl.col("messages").struct.field("role"),
            pl.col("messages").struct.field("content"),
            pl.col("messages").struct.field("trained").cast(pl.String),
        ),
    }
    names = ("task", "question", "references", "system", "answer", "messages")
    content = pl.concat_str(canonical(*(pl.col(name) for name in names)), *_given(rows, lists))
    texts = rows.with_columns(**lists).select(
        content=content,
        identity=pl.when(pl.col("id").is_null())
        .then(pl.concat_str([canonical(pl.lit(collection), pl.lit("content")), content]))
        .otherwise(canonical(pl.lit(collection), pl.lit("id"), pl.col("id"))),
    )
    hi, lo = text_digests(texts["identity"])
    named = rows["id"].is_not_null().to_numpy()
    content_digest = np.zeros(rows.height, dtype=np.uint64)
    content_digest[named] = text_digests(texts["content"].filter(rows["id"].is_not_null()))[0]
    return rows.with_columns(
        pl.Series("digest_hi", hi),
        pl.Series("digest_lo", lo),
        pl.Series("content", content_digest),
    )


def numbered_ids(identity: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of all rows, and whether a row's id is taken (int8 [rows], a place in TAKEN).

    Rows without an id of their own that are equal get the ids of their occurrence numbers; of rows with the same own
    id the first is kept.
    """
    hi, lo = identity["digest_hi"].to_numpy().copy(), identity["digest_lo"].to_numpy().copy()
    content = identity["content"].to_numpy()
    taken = np.full(len(hi), FREE, dtype=np.int8)
    order = _possible_repeats(hi)
    order = order[np.lexsort((lo[order], hi[order]))]
    repeats = np.append(False, (hi[order][1:] == hi[order][:-1]) & (lo[order][1:] == lo[order][:-1]))[: len(order)]
    if not repeats.any():
        return hi, lo, taken
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(order))))
    occurrence = np.arange(len(order)) - first
    rows, heads, numbers = order[repeats], order[first[repeats]], occurrence[repeats].astype(np.uint64)
    named = content[rows] != 0  # rows without an id of their own keep no digest of their content apart
    same = content[rows] == content[heads]
    taken[rows[named & same]] = _AGAIN
    taken[rows[named & ~same]] = CONTRADICTED
    plain = rows[~named]
    hi[plain] = splitmix64(hi[plain] ^ numbers[~named])
    lo[plain] = splitmix64(lo[plain] + numbers[~named])
    return hi, lo, taken


def _given(rows: pl.DataFrame, lists: Mapping[str, pl.Series]) -> list[pl.Expr]:
    """The content of columns that few sources have: nothing at all where a row has none, so that its id does not tell
    whether its source could have had them."""
    import polars as pl

    given = [name for name in ("options", "language", "reasoning", "extra") if rows[name].null_count() < rows.height]
    texts = {name: pl.lit(lists[name]) if name in lists else pl.col(name) for name in given}
    return [
        pl.when(text.is_null()).then(pl.lit("")).otherwise(canonical(pl.lit(name), text))
        for name, text in texts.items()
    ]


def _texts_of_lists(lists: pl.Series, *parts: pl.Expr) -> pl.Series:
    """One text a list, the canonical texts of its elements one after the other; null for null.

    The elements' texts stand one after the other in memory as they are: a list's text is a longer span of the same.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    if lists.null_count() == len(lists):
        return pl.Series(lists.name, [None] * len(lists), dtype=pl.String)
    column = lists.rechunk().to_arrow()
    ends = np.cumsum(np.asarray(pc.list_value_length(column).fill_null(0)), dtype=np.int64)
    elements: Any = pl.from_arrow(column.flatten())
    texts = elements.alias(lists.name).to_frame().select(text=canonical(*parts))["text"].rechunk().to_arrow()
    offsets, data = string_buffers(texts)
    spans = pa.py_buffer(np.ascontiguousarray(offsets[np.concatenate([[0], ends])]))
    joined: Any = pl.from_arrow(pa.LargeStringArray.from_buffers(len(lists), spans, data))
    return pl.select(pl.when(lists.is_not_null()).then(joined).alias(lists.name)).to_series()


def _possible_repeats(values: np.ndarray) -> np.ndarray:
    """The places of all values that stand more than once, rising: sorting values costs a tenth of sorting places, and
    nearly all stand once."""
    ordered = np.sort(values)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(values, again)) if len(again) else np.empty(0, dtype=np.int64)
