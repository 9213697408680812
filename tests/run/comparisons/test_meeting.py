"""Rows that share a key meet, whatever part and slice they stand in, and the first in order stays."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.run.comparisons.greedy import first_stays
from orca_recipes.run.comparisons.meeting import Known, Met, meetings, rising_order, widely_shared


def parts_of(keys: list[list[int]], cuts: set[int]) -> list[Met]:
    """Parts of rows, each with its keys, cut at some rows."""
    bounds = sorted({0, len(keys), *(cut for cut in cuts if cut < len(keys))})
    parts = []
    for start, stop in pairwise(bounds):
        found = sorted((key << 61, row - start) for row in range(start, stop) for key in keys[row])
        parts.append(
            Met(
                np.array([key for key, _ in found], dtype=np.uint64),
                np.array([row for _, row in found], dtype=np.uint32),
                start,
            )
        )
    return parts


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=2, max_size=12), st.sets(st.integers(1, 11)), st.data()
)
def test_all_that_share_a_key_meet_once(keys: list[list[int]], cuts: set[int], data: st.DataObject):
    own = data.draw(st.integers(1, len(keys)))
    among = data.draw(st.booleans())
    order = np.concatenate([np.random.default_rng(1).permutation(own), np.arange(own - len(keys), 0)])
    found = meetings(
        parts_of(keys, {*cuts, own}), order=order, own=own, unit=np.arange(own), among=among, least_estimate=0.0
    )
    expected = {
        (one, other)
        for one in range(own)
        for other in range(len(keys))
        if order[other] < order[one] and set(keys[one]) & set(keys[other]) and (among or other >= own)
    }
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)


def test_slices_of_the_keys_decide_nothing(monkeypatch: pytest.MonkeyPatch):
    keys = [[row % 8, (row * 3) % 8] for row in range(200)]
    asked = {"order": np.arange(200), "own": 200, "unit": np.arange(200), "among": True, "least_estimate": 0.0}
    whole = meetings(parts_of(keys, {50}), **asked)
    monkeypatch.setattr("orca_recipes.run.comparisons.meeting._HELD_AT_ONCE", 10)
    assert np.array_equal(meetings(parts_of(keys, {20, 90}), **asked), whole)


def test_rows_made_of_one_row_never_meet():
    found = meetings(
        parts_of([[1], [1], [1]], set()),
        order=np.arange(3),
        own=3,
        unit=np.array([4, 4, 5]),
        among=True,
        least_estimate=0,
    )
    assert found.tolist() == [[2, 0], [2, 1]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=60))
def test_keys_that_differ_in_their_last_bits_alone_are_sorted_too(found: list[tuple[int, int]]):
    keys = np.array([(first << 61) + last for first, last in found], dtype=np.uint64)
    assert rising_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


def test_a_key_of_too_many_rows_is_a_sign_of_those_alone_that_have_no_other():
    keys = np.array([1, 1, 1, 2, 3], dtype=np.uint64)
    rows = np.array([0, 1, 2, 0, 1])
    shared, keep = widely_shared(keys, rows, 2)
    assert shared.tolist() == [1]
    assert keep.tolist() == [False, False, True, True, True]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40), st.integers(1, 50))
def test_widely_shared_keys_are_those_of_more_rows_than_the_most(found: list[tuple[int, int]], most: int):
    keys, rows = (np.array([pair[at] for pair in found], dtype=np.uint64) for at in (0, 1))
    wide = {key for key, _ in found if len({row for one, row in found if one == key}) > most}
    others = {row for key, row in found if key not in wide}
    shared, keep = widely_shared(keys, rows.astype(np.int64), most)
    assert shared.tolist() == sorted(wide)
    assert keep.tolist() == [key not in wide or row not in others for key, row in found]


def test_known_keys_are_told_from_others():
    known = np.sort(np.random.default_rng(2).integers(0, 1 << 63, 500, dtype=np.uint64))
    assert Known(known).holds(np.concatenate([known, known + np.uint64(1)])).tolist() == [True] * 500 + [False] * 500
    assert not Known(known[:0]).holds(known).any()


def test_who_is_like_one_that_does_not_stay_stays():
    pairs, order = np.array([[1, 0], [2, 1], [3, 1], [3, 0]]), np.arange(4)
    twin, share = first_stays(pairs, np.array([0.8, 0.9, 0.9, np.nan]), order, 4)
    assert twin.tolist() == [-1, 0, -1, -1]
    assert share[1] == pytest.approx(0.8)
