"""Copies of each row of a pool in a draw, in memory that grows with bytes a row and not with its ids.

A group's draw is a prefix of its keyed order. Keys are uniform, so where the prefix ends is known up to a narrow band
of keys beforehand: rows before the band are in, rows behind it are out, and only those inside are sorted. Where a band
proves too narrow it is widened and the pool read again, so that the result is exact whatever the keys are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orca_recipes.contract.draws import draw_keys
from orca_recipes.plan.mixture import Cut

# Standard deviations of a binomial draw: a prefix ends outside about twice in 10**9.
_SIGMAS = 6.0
# Rows more: the deviation is 0 where a share is 0 or 1, and small groups are not normal.
_SPARE = 16.0
# A row's key is below or equal to it: the bound of a group that is taken whole.
_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Chunk:
    """A stretch of a pool, in the order of its rows.

    id_hi, id_lo: uint64 [rows]. group: int32 [rows], -1 for rows that cannot be drawn. weight: int64 [rows], None
    where every row weighs 1.
    """

    id_hi: np.ndarray
    id_lo: np.ndarray
    group: np.ndarray
    weight: np.ndarray | None = None


Pool = Callable[[], Iterable[Chunk]]
"""Reads a pool from its start; a draw reads it once, and again where a band was too narrow."""


@dataclass(frozen=True)
class Sizes:
    """Rows and weights of groups: int64 [groups] each."""

    rows: np.ndarray
    weights: np.ndarray


def measured(pool: Pool, groups: int) -> Sizes:
    """Sum the rows of each group of a pool, and their weights."""
    rows = np.zeros(groups + 1, dtype=np.int64)
    weights = np.zeros(groups + 1, dtype=np.int64)
    for chunk in pool():
        places = chunk.group + 1
        counted = np.bincount(places, minlength=groups + 1)
        rows += counted
        if chunk.weight is None:
            weights += counted
        else:
            np.add.at(weights, places, chunk.weight)
    return Sizes(rows[1:], weights[1:])


def drawn_copies(pool: Pool, *, cuts: Sequence[Cut], sizes: Sizes, seed: int, purpose: str = "mixture") -> np.ndarray:
    """Draw from a pool; return the copies of each row: int16 [rows], 0 for rows not drawn.

    Args:
        cuts: one a group. purpose: of the keys, as for `draw_keys`.
    """
    above, boundary, below = (
        np.array([0, *(getattr(cut, name) for cut in cuts)], dtype=np.int16) for name in ("above", "boundary", "below")
    )
    bands = _Bands(cuts, sizes)
    while True:
        pieces: list[np.ndarray] = []
        inside = _Inside(len(cuts))
        for start, chunk in _numbered(pool):
            keys = draw_keys(id_hi=chunk.id_hi, id_lo=chunk.id_lo, seed=seed, purpose=purpose)
            places = chunk.group + 1
            is_above = keys < bands.low[places]
            pieces.append(np.where(is_above, above[places], below[places]))
            inside.add(chunk, keys, is_above, bands, start)
        ends = inside.ends(bands)
        if not bands.widen(ends.unsure):
            break
    copies = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int16)
    copies[ends.above] = above[ends.above_groups + 1]
    copies[ends.boundary] = boundary[ends.boundary_groups + 1]
    return copies


class _Bands:
    """Between which keys each group's prefix ends; place 0 is for rows that cannot be drawn.

    A group whose rows all stand alike has no band: it ends at 0.
    """

    def __init__(self, cuts: Sequence[Cut], sizes: Sizes) -> None:
        groups = len(cuts)
        self.weights = weights = np.array([cut.weight for cut in cuts], dtype=np.int64)
        self._sizes = sizes
        self._is_even = np.array([cut.weight == 0 and cut.boundary == cut.below for cut in cuts], dtype=np.bool_)
        self.low = np.zeros(groups + 1, dtype=np.uint64)
        self.high = np.zeros(groups + 1, dtype=np.uint64)
        # Floats say only how wide a band is, never which row is in: the draw is the same on every machine.
        share = weights / np.maximum(sizes.weights, 1)
        rows = np.maximum(sizes.rows, 1)
        self._spread = (_SIGMAS * np.sqrt(rows * share * (1 - share)) + _SPARE) / rows
        self._share = share
        self._set(np.arange(groups))

    def _set(self, groups: np.ndarray) -> None:
        low, high = self._share - self._spread, self._share + self._spread
        whole = self.weights >= self._sizes.weights
        self.low[groups + 1] = np.where(whole, _LAST, _as_keys(np.where(self._is_even, 0.0, low)))[groups]
        self.high[groups + 1] = np.where(self._is_even, 0, np.where(whole, _LAST, _as_keys(high)))[groups]

    def widen(self, groups: np.ndarray) -> bool:
        """Widen the bands of these groups; False where there is nothing to do."""
        # Widely, since reading the pool again costs more than sorting a wide band.
        self._spread[groups] *= 16
        self._set(groups)
        return bool(len(groups))


@dataclass(frozen=True)
class _Ends:
    """Ends of prefixes: positions of the pool with their groups, and the groups whose band was too narrow."""

    above: np.ndarray
    above_groups: np.ndarray
    boundary: np.ndarray
    boundary_groups: np.ndarray
    unsure: np.ndarray


class _Inside:
    """The rows inside the bands, and what stands before them."""

    def __init__(self, groups: int) -> None:
        self._before = np.zeros(groups + 1, dtype=np.int64)
        self._found: list[tuple[np.ndarray, ...]] = []

    def add(self, chunk: Chunk, keys: np.ndarray, is_above: np.ndarray, bands: _Bands, start: int) -> None:
        places = chunk.group + 1
        weight = np.ones(len(keys), dtype=np.int64) if chunk.weight is None else chunk.weight
        if chunk.weight is None:
            self._before += np.bincount(places[is_above], minlength=len(self._before))
        else:
            np.add.at(self._before, places[is_above], weight[is_above])
        near = np.flatnonzero(~is_above & (keys <= bands.high[places]) & (bands.high[places] > 0))
        if len(near):
            columns = (keys, chunk.id_hi, chunk.id_lo, chunk.group, weight)
            self._found.append((*(column[near] for column in columns), near + start))

    def ends(self, bands: _Bands) -> _Ends:
        groups = len(bands.weights)
        empty = np.empty(0, dtype=np.int64)
        if not self._found:
            return _Ends(empty, empty, empty, empty, self._unsure(bands, np.zeros(groups, dtype=np.int64)))
        keys, hi, lo, group, weight, position = (np.concatenate(column) for column in zip(*self._found, strict=True))
        order = np.lexsort((lo, hi, keys, group))
        group, weight, position = group[order], weight[order], position[order]
        running = np.cumsum(weight)
        first = np.searchsorted(group, np.arange(groups))
        offset = np.concatenate([[0], running])[first] - self._before[1:]
        reached = running - offset[group]
        is_above = reached <= bands.weights[group]
        inside = np.bincount(group, weights=weight, minlength=groups).astype(np.int64)
        is_boundary = ~is_above & np.append(True, is_above[:-1] | (group[1:] != group[:-1]))
        return _Ends(
            position[is_above],
            group[is_above],
            position[is_boundary],
            group[is_boundary],
            self._unsure(bands, inside),
        )

    def _unsure(self, bands: _Bands, inside: np.ndarray) -> np.ndarray:
        """Find the groups whose prefix ends outside of their band."""
        before = self._before[1:]
        too_late = before > bands.weights
        too_early = (before + inside <= bands.weights) & (bands.high[1:] < _LAST) & (bands.high[1:] > 0)
        return np.flatnonzero(too_late | too_early)


def _numbered(pool: Pool) -> Iterable[tuple[int, Chunk]]:
    start = 0
    for chunk in pool():
        yield start, chunk
        start += len(chunk.group)


def _as_keys(shares: np.ndarray) -> np.ndarray:
    """Scale shares of uniform keys to the keys that bound them, clipped to the ends."""
    scaled = np.clip(shares, 0.0, 1.0) * 2.0**64
    # The largest double below 2**64, which itself is no uint64.
    return np.where(scaled >= 2.0**64, _LAST, np.minimum(scaled, 2.0**63 * (2 - 2.0**-52)).astype(np.uint64))
