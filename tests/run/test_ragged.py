"""Positions of many spans at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.ragged import interleaved, ragged


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_spans_follow_one_another(spans: list[tuple[int, int]]):
    starts, counts = (np.array([span[part] for span in spans], dtype=np.int64) for part in (0, 1))
    assert ragged(starts, counts).tolist() == [start + step for start, count in spans for step in range(count)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=20))
def test_two_arrays_are_joined_span_by_span(spans: list[tuple[bool, int]]):
    is_first = np.array([span[0] for span in spans], dtype=bool)
    counts = np.array([span[1] for span in spans], dtype=np.int64)
    first = np.arange(counts[is_first].sum(), dtype=np.uint32)
    second = 1000 + np.arange(counts[~is_first].sum(), dtype=np.uint32)
    sources, expected = {True: iter(first.tolist()), False: iter(second.tolist())}, []
    for from_first, count in spans:
        expected += [next(sources[from_first]) for _ in range(count)]
    assert interleaved(is_first, counts, first, second).tolist() == expected
