"""Positions of many spans at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.ragged import ragged


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_spans_follow_one_another(spans: list[tuple[int, int]]):
    starts, counts = (np.array([span[part] for span in spans], dtype=np.int64) for part in (0, 1))
    assert ragged(starts, counts).tolist() == [start + step for start, count in spans for step in range(count)]
