"""Rows that are refused before anybody is asked, because the strategy would replace what they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca_recipes.contract.frames import repeated
from orca_recipes.contract.messages import ends_with_answer, last_answer
from orca_recipes.run.conversations.chats import brings_system
from orca_recipes.run.conversations.matching_rule import BoundRule

if TYPE_CHECKING:
    import polars as pl

_TWO_ANSWERS = (
    "the row brings two answers: one ends its messages, another stands as answer; leave one out, or say replace = true"
)


def refused_rows(examples: pl.DataFrame, rule: BoundRule) -> pl.Series:
    """Reject rows whose own words the strategy would replace, and rows without a definite answer."""
    import polars as pl

    if rule.replace:
        return repeated(None, pl.String, examples.height)
    if rule.strategy.keeps_own_words:
        return _two_answers(examples)
    own = pl.any_horizontal(pl.col("system", "answer").is_not_null())
    own |= pl.lit(brings_system(examples) | ends_with_answer(examples["messages"]))
    return examples.select(
        reason=pl.when(own).then(
            pl.lit("the row brings its own answer or system message; say replace = true to replace it")
        )
    )["reason"]


def _two_answers(examples: pl.DataFrame) -> pl.Series:
    """Give a reason for each row whose conversation ends on one answer while its `answer` is another; null for all
    others."""
    import polars as pl

    none = repeated(None, pl.String, examples.height)
    both = examples["answer"].is_not_null() & examples["messages"].is_not_null()
    if not both.any():
        return none
    both &= ends_with_answer(examples["messages"])
    differ = both & examples["answer"].ne_missing(last_answer(examples["messages"]))
    return pl.select(pl.when(differ).then(pl.lit(_TWO_ANSWERS)).otherwise(none)).to_series()
