"""Orca's algorithm 1 without its loop: the same distribution, keyed, each task's draw a prefix."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.plan.arrivals import _arrivals, _minus_log, arrival_counts


def counts(tasks: dict[str, int], rows: int, seed: int = 0) -> dict[str, int]:
    sizes = np.array(list(tasks.values()), dtype=np.int64)
    drawn = arrival_counts(collection="c", tasks=list(tasks), capacities=sizes, rows=rows, seed=seed)
    return dict(zip(tasks, drawn.tolist(), strict=True))


def naive(tasks: dict[str, int], rows: int, chance: random.Random) -> tuple[int, ...]:
    """Algorithm 1 as the paper prints it, counting alone."""
    left, drawn = dict(tasks), dict.fromkeys(tasks, 0)
    for _ in range(rows):
        task = chance.choice([name for name, rest in left.items() if rest])
        left[task] -= 1
        drawn[task] += 1
    return tuple(drawn.values())


def largest_likely(freedom: int) -> float:
    """What chi-square exceeds once in a thousand times (Wilson and Hilferty 1931)."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + 3.09 * part**0.5) ** 3)


@pytest.mark.parametrize(
    ("tasks", "rows"),
    [({"a": 1, "b": 3, "c": 9}, 7), ({"a": 2, "b": 2, "c": 2, "d": 30}, 8), ({"a": 50, "b": 50}, 6)],
)
def test_counts_by_task_are_distributed_as_a_naive_loop_draws_them(tasks: dict[str, int], rows: int):
    trials, chance = 6000, random.Random(3)
    ours = Counter(tuple(counts(tasks, rows, seed).values()) for seed in range(trials))
    loop = Counter(naive(tasks, rows, chance) for _ in range(trials))
    frequent = [outcome for outcome in ours | loop if ours[outcome] + loop[outcome] >= 20]
    # Two samples of equal size: the sum of (a - b)^2 / (a + b) is chi-square.
    statistic = sum((ours[o] - loop[o]) ** 2 / (ours[o] + loop[o]) for o in frequent)
    assert statistic < largest_likely(len(frequent) - 1)


def test_gaps_are_exponential():
    gaps = np.diff(_arrivals(key=12345, number=20_000, seed=1)) / 2.0**32
    found, wanted = np.arange(1, len(gaps) + 1) / len(gaps), 1 - np.exp(-np.sort(gaps))
    assert np.abs(found - wanted).max() * len(gaps) ** 0.5 < 1.95  # Kolmogorov-Smirnov at one in a thousand


def test_our_logarithm_is_the_logarithm():
    values = (2.0 * np.random.default_rng(1).integers(0, 2**52, 10_000) + 1) * 2.0**-53
    values[:2] = 2.0**-53, 1 - 2.0**-53
    np.testing.assert_allclose(_minus_log(values), -np.log(values), rtol=1e-13)


SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=8)


@given(SIZES, st.integers(0, 300), st.integers(0, 5))
def test_exactly_the_rows_asked_are_drawn_and_no_task_gives_more_than_it_has(sizes: list[int], rows: int, seed: int):
    tasks = {f"t{number}": size for number, size in enumerate(sizes)}
    rows = min(rows, sum(sizes))
    drawn = counts(tasks, rows, seed)
    assert sum(drawn.values()) == rows
    assert all(drawn[task] <= size for task, size in tasks.items())


@given(SIZES, st.integers(0, 300), st.integers(0, 3))
def test_one_more_row_is_one_more_row_of_one_task(sizes: list[int], rows: int, seed: int):
    tasks = {f"t{number}": size for number, size in enumerate(sizes)}
    rows = min(rows, max(sum(sizes) - 1, 0))
    fewer, more = counts(tasks, rows, seed), counts(tasks, min(rows + 1, sum(sizes)), seed)
    grown = {task: more[task] - fewer[task] for task in tasks}
    assert sorted(grown.values())[:-1] == [0] * (len(tasks) - 1)


def test_one_more_task_only_shortens_the_others_and_their_order_does_not_matter():
    tasks = {"a": 400, "b": 30, "c": 4000}
    alone, joined = counts(tasks, 900), counts({**tasks, "d": 5000}, 900)
    assert all(joined[task] <= alone[task] for task in tasks)
    turned = dict(reversed(tasks.items()))
    assert counts(turned, 900) == alone


def test_tasks_below_the_water_level_are_drawn_whole_and_the_others_alike():
    drawn = counts({"tiny": 10, "small": 500, "large": 60_000, "huge": 10**9}, 40_000)
    assert (drawn["tiny"], drawn["small"]) == (10, 500)
    assert abs(drawn["large"] - drawn["huge"]) < 6 * 40_000**0.5
