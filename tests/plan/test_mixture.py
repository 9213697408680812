"""How many rows a mixture takes, from sizes alone: exact integers, and the papers' water levels."""

import json
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.plan.mixture import (
    cut_of,
    divided_counts,
    group_counts,
    largest_remainder,
    proportional_counts,
    task_rates,
    water_level,
    with_reserve,
)
from orca_recipes.recipe.mixtures import Mixture, Take

WEIGHTS = st.lists(st.fractions(min_value=0, max_value=50, max_denominator=1000), min_size=1, max_size=12)


@given(st.integers(0, 10**9), WEIGHTS)
def test_parts_by_largest_remainder_sum_to_the_total_and_keep_their_quota(total: int, weights: list[Fraction]):
    parts = largest_remainder(total, weights)
    whole = sum(weights)
    assert sum(parts) == (total if whole else 0)
    assert all(abs(part - total * weight / whole) < 1 for part, weight in zip(parts, weights, strict=True) if whole)


def test_what_is_left_goes_to_the_largest_remainders_and_of_equal_ones_to_the_first():
    assert largest_remainder(10, [Decimal("0.25")] * 4) == [3, 3, 2, 2]
    assert largest_remainder(10, [1, 2, 4]) == [1, 3, 6]
    assert largest_remainder(7, [Decimal("0.1"), Decimal("0.2"), Decimal("0.7")]) == [1, 1, 5]


def test_shares_are_decimals_and_never_floats():
    assert largest_remainder(10, [Decimal("0.1")] * 10) == [1] * 10
    assert largest_remainder(10**18 + 1, [Decimal("0.3"), Decimal("0.7")]) == [3 * 10**17, 7 * 10**17 + 1]


@given(
    st.integers(0, 5000),
    st.lists(st.tuples(st.fractions(0, 9, max_denominator=90), st.integers(0, 400)), min_size=1, max_size=15),
)
def test_no_task_gives_more_than_it_has_and_the_others_make_up_for_it(total: int, tasks: list[tuple[Fraction, int]]):
    rates, capacities = [rate for rate, _ in tasks], [capacity for _, capacity in tasks]
    counts = proportional_counts(total, rates, capacities)
    assert all(0 <= count <= capacity for count, capacity in zip(counts, capacities, strict=True))
    assert sum(counts) == min(total, sum(capacity for rate, capacity in tasks if rate))


def test_rates_are_sizes_up_to_the_cap_to_the_power_of_one_by_the_temperature():
    assert task_rates([10, 5000, 9000], cap=3000, temperature=None) == [10, 3000, 3000]
    flat = task_rates([16, 81, 10**6], cap=81, temperature=Decimal("4"))
    assert [round(float(rate), 12) for rate in flat] == [2, 3, 3]
    assert group_counts(
        Take.model_validate({"draw": "proportional", "rows": 61, "cap": 30}, strict=False), [1, 300, 3000], 61
    ) == [1, 30, 30]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), st.integers(0, 3000))
def test_the_water_level_gives_out_what_is_asked(capacities: list[int], rows: int):
    level = water_level(capacities, rows)
    assert sum(min(Fraction(capacity), level) for capacity in capacities) == min(rows, sum(capacities))


def test_the_water_levels_of_orca_1_are_those_of_the_facts(shared: Path):
    t0, flan = (
        [task["zero_shot_rows"] for task in json.loads((shared / "facts" / f"{name}_tasks.json").read_text())]
        for name in ("t0", "flan2021")
    )
    facts = json.loads((shared / "facts" / "orca1_mixture.json").read_text())["algorithm_1_water_level"]
    assert ceil(water_level(t0, 2_000_000)) == facts["T0_2M_zsopt_only"]
    assert ceil(water_level([2 * rows for rows in t0], 2_000_000)) == facts["T0_2M_pooled"]
    assert ceil(water_level(flan, 2_500_000)) == facts["Flan2021_2.5M_zsopt_only_71"]
    assert ceil(water_level([2 * rows for rows in flan], 2_500_000)) == facts["Flan2021_2.5M_pooled_71"]
    assert ceil(water_level([*flan, *flan], 2_500_000)) == facts["Flan2021_2.5M_142"]


def test_a_cap_of_300_a_task_gives_451_028_rows_of_natural_instructions(shared: Path):
    tasks = json.loads((shared / "facts" / "niv2_tasks.json").read_text())
    sizes = [task["number_examples"] for task in tasks if not task["mmlu_filtered"]]
    assert (len(sizes), sum(group_counts(Take(per_task=300), sizes, None))) == (1597, 451_028)


def test_shares_and_rates_divide_what_the_mixture_says():
    takes = {"a": {"share": 0.25}, "b": {"draw": "proportional"}, "c": {"draw": "proportional"}, "d": {"rows": 7}}
    mixture = Mixture.model_validate_json(json.dumps({"rows": 1000, "take": takes}))
    assert divided_counts(mixture, {"b": Fraction(1), "c": Fraction(2)}) == {"a": 250, "b": 250, "c": 500}


@given(st.integers(0, 60), st.integers(0, 9), st.integers(1, 4))
def test_repeats_give_out_every_count_and_put_no_row_twice_before_its_turn(count: int, size: int, repeat: int):
    count = min(count, size * 7)
    cut = cut_of(count, size, repeat)
    copies = [cut.above] * cut.weight + [cut.boundary] * (size > cut.weight)
    copies += [cut.below] * (size - len(copies))
    assert sum(copies) == count
    assert copies == sorted(copies, reverse=True)
    assert max(copies, default=0) - min(copies, default=0) <= max(repeat, 1)
    assert max(copies, default=0) <= max(repeat, -(-count // size) if size else 0)


def test_a_reserve_is_rounded_up_to_whole_rows():
    assert [with_reserve(count, Decimal("0.1")) for count in (1, 10, 11, 100)] == [2, 11, 13, 110]
    assert with_reserve(5, None) == 5
