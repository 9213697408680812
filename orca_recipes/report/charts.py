"""Bars, drawn when the page is made: plain SVG of numbers alone, which every browser shows and prints.

No text is in them, since it would shrink with them on a phone: the page writes the axes, and the same numbers in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT = 640, 160
_BINS = 24


@dataclass(frozen=True)
class Bin:
    """The number of values from `low` to `high`, both included."""

    low: int
    high: int
    number: int


def bins(counts: np.ndarray, *, top: int | None = None) -> list[Bin]:
    """Gather counts of each value in at most 24 spans of one width, from 0, or from the least value where all of them
    are in the greater half.

    Args:
        counts: int64, at n how many have the value n. top: the greatest value there may be; None: the greatest
            there is.
    """
    most = max(len(counts) - 1 if top is None else top, 1)
    least = int(np.flatnonzero(counts)[0]) if counts.any() else 0
    start = least if 2 * least > most else 0
    width = -(-(most + 1 - start) // _BINS)
    found = []
    for low in range(start, most + 1, width):
        high = min(low + width - 1, most)
        found.append(Bin(low, high, int(counts[low : high + 1].sum())))
    return found


def quantile(counts: np.ndarray, share: float) -> int:
    """Return the smallest value v so that at least this share of all values is v or less; 0 if there are no values."""
    total = int(counts.sum())
    if not total:
        return 0
    return int(np.searchsorted(np.cumsum(counts), max(1, np.ceil(share * total))))


def histogram(found: Sequence[Bin], *, title: str) -> str:
    """Draw bins as bars over an axis.

    Args:
        title: what is counted, in words of ours, for those who cannot see it.
    """
    most = max((one.number for one in found), default=0) or 1
    step = _WIDTH / max(len(found), 1)
    bars = []
    for place, one in enumerate(found):
        height = _HEIGHT * one.number / most
        if one.number:
            # A single example among millions would be drawn as nothing.
            height = max(height, 1.5)
        bars.append(
            f'<rect x="{place * step + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}"><title>{one.low:,} to {one.high:,}: {one.number:,}</title></rect>'
        )
    return (
        f'<svg class="histogram" role="img" aria-label="{title}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none">{"".join(bars)}</svg>'
    )


def bar(part: float) -> str:
    """Draw a share as a bar, 0 to 1; the number stands beside it."""
    width = 100 * min(max(part, 0.0), 1.0)
    return (
        '<svg class="bar" aria-hidden="true" viewBox="0 0 100 8" preserveAspectRatio="none">'
        f'<rect class="rail" width="100" height="8"/><rect width="{width:.2f}" height="8"/></svg>'
    )
