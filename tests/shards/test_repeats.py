"""Which values stand more than once, whatever column they stand in."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.shards.checks import repeats
from orca_recipes.shards.checks.repeats import repeated_values

VALUES = st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("at_once", [1, 3, 1 << 20])
@given(columns=st.lists(st.lists(VALUES, max_size=8), max_size=4))
def test_a_value_that_stands_more_than_once_is_found_once(at_once: int, columns: list[list[int]]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_SORTED_AT_ONCE", at_once)
        found = repeated_values([np.array(column, dtype=np.uint64) for column in columns])
    counted = Counter(value for column in columns for value in column)
    assert found.tolist() == sorted(value for value, count in counted.items() if count > 1)
