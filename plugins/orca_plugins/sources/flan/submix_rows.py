"""The rows of an export that belong to a collection, with the options in their questions.

Rows of another submix or template type are not part of the collection, as a file that a pattern does not match; they
are counted, never listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from orca_plugins.sources.flan.answer_options import options_in
from orca_plugins.sources.flan.hub_layout import layout
from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Reading

if TYPE_CHECKING:
    import polars as pl

_OF_ANOTHER_SUBMIX = "rows of another submix"
_OF_ANOTHER_TEMPLATE = "rows of another template type"
_UNMARKED = "template_type: there is none"


def rows_of_submix(reading: Reading, *, marks: Mapping[str, str], submix: str, wants: Callable[[str], bool]) -> Reading:
    """Keep the rows of a submix and of wanted templates, and add the options that their questions show.

    Args:
        marks: "source" and "template", where they are needed, to the `extra` columns that hold them.
    """
    import polars as pl

    rows = reading.rows.with_columns(_value(column).alias(mark) for mark, column in marks.items())
    passed_over = dict(reading.passed_over)
    if "source" in marks:
        known = pl.col("source").is_null() | pl.col("source").str.to_lowercase().is_in(layout()["sources"][submix])
        rows = _passing(rows, known, _OF_ANOTHER_SUBMIX, passed_over)
    rejected = reading.rejected
    if "template" in marks:
        unmarked = rows.filter(pl.col("template").is_null()).select("place", reason=pl.lit(_UNMARKED))
        rejected = pl.concat([rejected, completed(unmarked, rejected_rows_schema())]).sort("place")
        types = [value for value in rows["template"].unique() if value is not None and wants(value)]
        rows = rows.filter(pl.col("template").is_not_null())
        rows = _passing(rows, pl.col("template").is_in(types), _OF_ANOTHER_TEMPLATE, passed_over)
    rows = rows.with_columns(options_in(rows["question"]).alias("options")).drop("extra")
    return replace(reading, rows=completed(rows, rows_schema()), rejected=rejected, passed_over=passed_over)


def _value(column: str) -> pl.Expr:
    """Select an extra column's value, null where the row has none."""
    import polars as pl

    named = pl.element().struct.field("name") == column
    return pl.col("extra").list.eval(pl.element().filter(named).struct.field("value")).list.first()


def _passing(rows: pl.DataFrame, keep: pl.Expr, reason: str, passed_over: dict[str, int]) -> pl.DataFrame:
    kept = rows.filter(keep)
    if kept.height < rows.height:
        passed_over[reason] = passed_over.get(reason, 0) + rows.height - kept.height
    return kept
