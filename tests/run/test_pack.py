"""Which shard an example is in, and where it stands among the examples of its shard."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.pack import by_shard

HALVES = st.integers(0, 2**64 - 1) | st.integers(0, 3)


@given(
    ids=st.lists(st.tuples(HALVES, HALVES), max_size=30, unique=True),
    keys=st.lists(HALVES, min_size=30, max_size=30),
    shards=st.integers(1, 300),
)
def test_examples_stand_by_shard_then_key_then_id(ids: list[tuple[int, int]], keys: list[int], shards: int):
    high, low = (np.array([half[part] for half in ids], dtype=np.uint64) for part in (0, 1))
    chosen = np.array(keys[: len(ids)], dtype=np.uint64)
    order, bounds = by_shard(id_hi=high, id_lo=low, keys=chosen, shards=shards)
    expected = sorted(range(len(ids)), key=lambda at: (ids[at][1] % shards, keys[at], *ids[at]))
    assert order.tolist() == expected
    assert bounds.tolist() == [sum(half[1] % shards < shard for half in ids) for shard in range(shards + 1)]
