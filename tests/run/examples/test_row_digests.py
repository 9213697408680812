"""Which questions of a collection stand among those of others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.examples import row_digests
from orca_recipes.run.examples.row_digests import stand_in

HALVES = st.sampled_from([0, 1, 2, 2**63 - 1, 2**63, 2**64 - 1])
DIGESTS = st.lists(st.tuples(HALVES, HALVES), max_size=30)


@pytest.mark.parametrize("at_once", [1, 5, 1 << 21])
@pytest.mark.parametrize("few", [1, 1000])
@given(mine=DIGESTS, others=st.lists(DIGESTS, max_size=3))
def test_a_question_stands_among_others_where_its_whole_digest_does(
    few: int, at_once: int, mine: list[tuple[int, int]], others: list[list[tuple[int, int]]]
):
    own, *them = (tuple(np.array(pairs, dtype=np.uint64).reshape(-1, 2).T) for pairs in (mine, *others))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_digests, "_HELD_AT_ONCE", at_once)
        patch.setattr(row_digests, "_FEW", few)
        found = stand_in(own, them)  # type: ignore[arg-type]
    every = {pair for pairs in others for pair in pairs}
    assert found.tolist() == [pair in every for pair in mine]
