"""Some rows of a shard as columns of their own, for checks that look at a sample of a very large build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.segments import Segments

if TYPE_CHECKING:
    from orca_recipes.shards.reader import Shard

Sampler = Callable[[str, int], np.ndarray]
"""Which rows of a shard are looked at: its prefix and how many rows it has, to int64 [chosen], rising."""


@dataclass(frozen=True)
class ChosenRows:
    """Rows of a shard, one after the other.

    segments, tokens: of the chosen rows alone. rows: int64 [chosen], examples: int64 [examples of the chosen rows];
    what each is called in the shard.
    """

    segments: Segments
    tokens: np.ndarray
    rows: np.ndarray
    examples: np.ndarray


def choose_rows(shard: Shard, sampler: Sampler | None, prefix: str) -> ChosenRows:
    """Select the rows a sampler chooses, or all of them without copying.

    The tokens of the shard lie as its rows do.
    """
    segments = shard.segments
    if sampler is None:
        return ChosenRows(segments, shard.tokens, np.arange(segments.rows), np.arange(segments.examples))
    rows = sampler(prefix, segments.rows)
    of_rows = _spans(segments.row_starts, rows)
    starts = np.concatenate([[0], np.cumsum(np.diff(segments.row_starts)[rows])])
    chosen = Segments(segments.lengths[of_rows], segments.modes[of_rows], starts)
    token_bounds = segments.token_starts[segments.row_starts]
    shard.bring(token_bounds[rows], token_bounds[rows + 1])
    return ChosenRows(chosen, shard.tokens[_spans(token_bounds, rows)], rows, _spans(segments.row_examples, rows))


def _spans(bounds: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the positions from bounds[i] up to bounds[i + 1] of every chosen i, one span after the other."""
    counts = np.diff(bounds)[chosen]
    return np.asarray(np.repeat(bounds[chosen] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum()))
