"""Where the units hold a shard's examples: unit by unit, and back in the order of the shard."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.rows.unit_places import Places

NUMBERS = st.integers(0, 3) | st.integers(0, 2**31 - 1)


@given(examples=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20, unique=True))
def test_each_unit_is_read_from_front_to_back_and_the_order_of_the_shard_is_kept(examples: list[tuple[int, int]]):
    order = pl.DataFrame(examples, schema={"unit": pl.Int32, "index": pl.Int32}, orient="row").to_arrow()
    places = Places.of(order)
    by_unit = [(unit, row) for unit, rows in places.by_unit() for row in rows.tolist()]
    assert by_unit == sorted(examples)
    assert [by_unit[at] for at in places.rank.tolist()] == examples
    assert np.diff([unit for unit, _ in places.by_unit()]).min(initial=1) > 0
