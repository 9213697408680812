"""Positions of many spans at once, for gathering and scattering whole columns."""

import numpy as np


def ragged(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The positions start, start + 1, ... of every span, one span after the other: int64 [sum of counts]."""
    ends = np.cumsum(counts)
    positions = np.repeat(starts - (ends - counts), counts)
    positions += np.arange(len(positions))
    return positions
