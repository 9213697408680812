"""Rows of each task drawn by Orca's algorithm 1, exactly in distribution and without a loop over draws.

The algorithm picks a task uniformly among those with rows left, takes one of its rows, and goes on until it has n.
Let the rows of every task arrive after exponential gaps of mean 1, independently: by the lack of memory the next
arrival is any living task's with equal chance, so the first n arrivals are the algorithm's n draws, in its order. Gaps
are keyed by seed, collection and task; so another task, or another n, changes how many rows of a task come, never
which come first. Gaps are fixed-point integers made of exact operations: no library's logarithm decides a count.
"""

from collections.abc import Sequence

import numpy as np

from orca_recipes.contract.draws import digests, draw_keys

_ONE = float(1 << 32)
"""A gap of 1 in fixed point: 2 ** 31 arrivals fit into an int64, and a gap is exact to 2 ** -32."""

# Exact bits: math.log is the machine's C library, which may round otherwise.
_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
_SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
# The slope is below 0.172, so that the first term left out is below 1e-18.
_TERMS = 11
# Arrivals up to a time spread by its root; too few looked at costs one more round, no row.
_MARGIN_SIGMAS = 6


def arrival_counts(
    *, collection: str, tasks: Sequence[str], capacities: np.ndarray, rows: int, seed: int
) -> np.ndarray:
    """Count the draws from each task among the first `rows`: int64 [tasks].

    Args:
        capacities: int64 [tasks], how often each task can be drawn from.
        rows: at most the sum of the capacities.
    Source: Mukherjee et al. 2023, arXiv 2306.02707, algorithm 1.
    """
    if rows >= int(capacities.sum()):
        return np.array(capacities, dtype=np.int64)
    keys = _task_keys(collection, tasks)
    reach = _first_reach(capacities, rows)
    while True:
        arrivals = [_arrivals(int(key), int(number), seed) for key, number in zip(keys, reach, strict=True)]
        time = _time_of(arrivals, rows)
        short = [
            place
            for place, times in enumerate(arrivals)
            if reach[place] < capacities[place] and (not len(times) or times[-1] <= time)
        ]
        if not short:
            return _counts_at(arrivals, keys, time, rows)
        # Doubled: few rounds for any capacity, and at most about twice the arrivals that are needed.
        reach[short] = np.minimum(capacities[short], 2 * reach[short] + 64)


def arrival_times(*, collection: str, task: str, rows: int, seed: int) -> np.ndarray:
    """Return the arrival times of a task's first rows, in the order of all tasks' draws: int64 [rows], rising."""
    return _arrivals(int(_task_keys(collection, [task])[0]), rows, seed)


def _task_keys(collection: str, tasks: Sequence[str]) -> np.ndarray:
    # No name of a collection holds the separator, so that two pairs of names never make one text.
    return digests([f"{collection}\x1f{task}".encode() for task in tasks])[0]


def _first_reach(capacities: np.ndarray, rows: int) -> np.ndarray:
    """Guess how many arrivals of each task have to be looked at: the water level and some more."""
    ordered = np.sort(capacities)
    alive = len(ordered) - np.arange(len(ordered))
    drawn = np.cumsum(ordered) + ordered * (alive - 1)  # by the time that each is drawn whole
    place = int(np.searchsorted(drawn, rows))
    before = int(drawn[place - 1]) if place else 0
    level = (int(ordered[place - 1]) if place else 0) + (rows - before) / int(alive[place])
    return np.asarray(np.minimum(capacities, int(level + _MARGIN_SIGMAS * level**0.5) + 64), dtype=np.int64)


def _arrivals(key: int, number: int, seed: int) -> np.ndarray:
    """Draw the arrival times of a task's first rows, in fixed point: int64 [number], rising."""
    places = np.arange(number, dtype=np.uint64)
    hi = np.full(number, key, dtype=np.uint64)
    bits = draw_keys(id_hi=hi, id_lo=places, seed=seed, purpose="arrivals") >> np.uint64(12)
    uniform = (2.0 * bits.astype(np.float64) + 1.0) * 2.0**-53  # exact, inside (0, 1)
    gaps = np.rint(_minus_log(uniform) * _ONE).astype(np.int64)
    return np.asarray(np.cumsum(gaps), dtype=np.int64)


def _minus_log(values: np.ndarray) -> np.ndarray:
    """Compute -ln of float64 in (0, 1), by its series: additions, products and quotients round alike on every
    machine."""
    mantissa, exponent = np.frexp(values)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2, mantissa)
    exponent = exponent - low
    slope = (mantissa - 1.0) / (mantissa + 1.0)
    square = slope * slope
    series = np.full(len(values), 1.0 / (2 * _TERMS - 1))
    for term in range(_TERMS - 2, -1, -1):
        series = series * square + 1.0 / (2 * term + 1)
    return np.asarray(-(exponent * _LN2 + 2.0 * slope * series))


def _time_of(arrivals: Sequence[np.ndarray], rows: int) -> int:
    """Find the earliest time by which so many rows have arrived."""
    early, late = -1, max((int(times[-1]) for times in arrivals if len(times)), default=0)
    while late - early > 1:
        middle = (early + late) // 2
        if sum(int(np.searchsorted(times, middle, side="right")) for times in arrivals) >= rows:
            late = middle
        else:
            early = middle
    return late


def _counts_at(arrivals: Sequence[np.ndarray], keys: np.ndarray, time: int, rows: int) -> np.ndarray:
    """Count by task; of rows that arrive at the very time, those of the tasks with the largest keys come last."""
    counts = np.array([np.searchsorted(times, time, side="right") for times in arrivals], dtype=np.int64)
    before = np.array([np.searchsorted(times, time, side="left") for times in arrivals], dtype=np.int64)
    excess = int(counts.sum()) - rows
    for place in np.argsort(keys, kind="stable")[::-1]:
        back = min(excess, int(counts[place] - before[place]))
        counts[place] -= back
        excess -= back
    return counts
