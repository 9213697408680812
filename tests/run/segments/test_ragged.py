"""Many spans at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.segments.ragged import gathered_rows, ragged


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_spans_follow_one_another(spans: list[tuple[int, int]]):
    starts, counts = (np.array([span[part] for span in spans], dtype=np.int64) for part in (0, 1))
    assert ragged(starts, counts).tolist() == [start + step for start, count in spans for step in range(count)]


@given(rows=st.lists(st.lists(st.integers(0, 255), max_size=4), min_size=1, max_size=8), data=st.data())
def test_rows_are_copied_whole_in_the_order_that_is_asked_for(rows: list[list[int]], data: st.DataObject):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    starts = np.cumsum([0, *map(len, rows)])
    for dtype in (np.int8, np.uint16, np.int32):
        values = np.array([value for row in rows for value in row]).astype(dtype)
        found = gathered_rows(values, starts, np.array(chosen, dtype=np.int64))
        assert found.dtype == dtype
        assert found.tolist() == [value for at in chosen for value in values[starts[at] : starts[at + 1]].tolist()]
