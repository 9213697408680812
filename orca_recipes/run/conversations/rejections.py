"""Lines of conversations that a stage rejected, in the columns that parts store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


def rejections(frame: pl.DataFrame, reasons: pl.Series, stage: str) -> pl.DataFrame:
    """Select the rows with a reason, in the columns that parts store."""
    import polars as pl

    if reasons.null_count() == len(reasons):
        return all_rejections([])
    rejected = reasons.is_not_null()
    rows = frame.select("id_hi", "id_lo", "file", "place").filter(rejected)
    return rows.with_columns(reasons.filter(rejected).alias("reason"), pl.lit(stage).alias("stage"))


def all_rejections(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Stack rejections one under the other."""
    import polars as pl

    schema: dict[str, Any] = {
        "id_hi": pl.UInt64,
        "id_lo": pl.UInt64,
        "file": pl.String,
        "place": pl.Int64,
        "reason": pl.String,
        "stage": pl.String,
    }
    return pl.concat([pl.DataFrame(schema=schema), *frames])


def only(frame: pl.DataFrame, mask: pl.Series) -> pl.DataFrame:
    """Filter the rows of a frame; if all stay, as nearly always, return it without a copy."""
    return frame if mask.all() else frame.filter(mask)
