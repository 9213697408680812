"""Positions of many spans at once, for gathering and scattering whole columns."""

import numpy as np


def ragged(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The positions start, start + 1, ... of every span, one span after the other: int64 [sum of counts]."""
    ends = np.cumsum(counts)
    positions = np.repeat(starts - (ends - counts), counts)
    positions += np.arange(len(positions))
    return positions


def interleaved(is_first: np.ndarray, counts: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The elements of two arrays in turn: span i is the next counts[i] elements of `first` where is_first[i], else of
    `second`; uint32 [sum of counts]. A mask is a quarter of the work of positions."""
    if not len(second):
        return first
    from_first = np.repeat(is_first, counts)
    joined = np.empty(len(from_first), dtype=np.uint32)
    joined[from_first] = first
    joined[~from_first] = second
    return joined
