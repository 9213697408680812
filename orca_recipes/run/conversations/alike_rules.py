"""Consecutive rules that differ in conditions and system messages alone: their examples are asked and taught at once.

A step on few rows costs as much as one on many, so that ten rules, one by one, cost several times what one costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.run.conversations.matching_rule import BoundRule
from orca_recipes.run.conversations.system_messages import headed

if TYPE_CHECKING:
    import polars as pl


def alike_rules(rules: Sequence[BoundRule]) -> Iterator[range]:
    """Yield the places of consecutive rules that are alike."""
    start = 0
    for stop in range(1, len(rules) + 1):
        if stop == len(rules) or _as_one(rules[stop]) != _as_one(rules[start]):
            yield range(start, stop)
            start = stop


def examples_of(examples: pl.DataFrame, rule_of: np.ndarray, places: range) -> pl.DataFrame:
    """Select the examples of some rules, those of the first rule first, and add `rule`, each one's place.

    Args:
        rule_of: int64 [examples], the place of each one's rule.
    """
    import polars as pl

    rows = np.flatnonzero((rule_of >= places.start) & (rule_of < places.stop))
    rows = rows[np.argsort(rule_of[rows], kind="stable")]
    in_place = len(rows) == examples.height and bool((np.diff(rows) == 1).all())
    return (examples if in_place else examples[rows]).with_columns(pl.Series("rule", rule_of[rows]))


def headed_by_rule(
    examples: pl.DataFrame, rules: Sequence[BoundRule], *, seed: int, open_to_words: pl.Series
) -> pl.DataFrame:
    """Give examples the system messages of their own rules, as `system_messages.headed` does.

    Args:
        examples: what `examples_of` returns, at least one.
    """
    import polars as pl

    places, starts = np.unique(examples["rule"].to_numpy(), return_index=True)
    bounds = zip(places.tolist(), starts.tolist(), [*starts[1:].tolist(), examples.height], strict=True)
    pieces = [
        headed(
            examples[start:stop],
            rules[place].messages,
            seed=seed,
            is_expanded=rules[place].is_expanded,
            open_to_words=open_to_words[start:stop],
        )
        for place, start, stop in bounds
    ]
    # In one piece: to gather from several costs three times as much.
    return pieces[0] if len(pieces) == 1 else pl.concat(pieces, rechunk=True)


def _as_one(rule: BoundRule) -> tuple[object, ...]:
    return rule.strategy_name, rule.replace, rule.is_expanded, rule.train_on, bool(rule.messages)
