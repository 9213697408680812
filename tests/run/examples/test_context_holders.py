"""The first row that holds each context is what a look through all earlier collections finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.examples import context_holders
from orca_recipes.run.examples.context_holders import ContextHolders
from orca_recipes.run.examples.row_digests import Digests

Examples = tuple[np.ndarray, Digests]
CONTEXTS = st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 1 << 63]))
COLLECTIONS = st.lists(st.lists(CONTEXTS, max_size=6), max_size=6)


def examples(contexts: list[tuple[int, int]]) -> Examples:
    """Rows 10, 11, ... with these contexts."""
    hi, lo = (np.array([one[at] for one in contexts], dtype=np.uint64) for at in (0, 1))
    return np.arange(10, 10 + len(contexts)), (hi, lo)


@given(COLLECTIONS, st.lists(CONTEXTS, max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_a_context_is_held_by_the_first_row_of_the_first_collection(
    collections: list[list[tuple[int, int]]], mine: list[tuple[int, int]], before: int, learnt: int
) -> None:
    before, learnt = (min(count, len(collections)) for count in (before, learnt))
    holders = ContextHolders()
    for count in (learnt, before):  # some are known from an earlier look, perhaps more than are asked about
        holders.learn(count, lambda number: examples(collections[number]))
    known, collection, row = holders.first(examples(mine)[1], before=before)
    held = collections[:before]
    first = {
        context: next((number, 10 + one.index(context)) for number, one in enumerate(held) if context in one)
        for context in {context for one in held for context in one}
    }
    found = [(int(c), int(r)) if k else None for k, c, r in zip(known, collection, row, strict=True)]
    assert found == [first.get(context) for context in mine]


def test_each_collection_is_read_once() -> None:
    read: list[int] = []

    def told(number: int) -> Examples:
        read.append(number)
        return examples([(number, 0)])

    holders = ContextHolders()
    for count in (1, 3, 2, 4):
        holders.learn(count, told)
    assert read == [0, 1, 2, 3]


def test_a_large_collection_and_what_is_beyond_the_bound_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_holders, "_ROWS_IN_ALL", 2)
    held: list[Examples | None] = [examples([(1, 0)]), None, examples([(2, 0), (3, 0)]), examples([(4, 0)])]
    holders = ContextHolders()
    holders.learn(4, lambda number: held[number])
    assert holders.left_out == [1, 2]
    assert holders.first(examples([(1, 0), (2, 0), (4, 0)])[1], before=4)[0].tolist() == [True, False, True]
