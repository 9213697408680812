"""Rows of tokens: put in any order, held as shards store them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.segments.token_rows import Encoded

TEXTS = st.lists(st.lists(st.integers(0, 70_000), max_size=4), max_size=8)


def encoding(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([token for text in texts for token in text], dtype=np.uint32)
    return ids, np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)


@given(parts=st.lists(TEXTS, max_size=2), draws=st.lists(st.integers(0, 1000), max_size=20))
def test_rows_are_gathered_in_any_order(parts: list[list[list[int]]], draws: list[int]):
    controls = [1, 2, 65_000]
    rows = [text for part in parts for text in part] + [[token] for token in controls]
    encoded = Encoded.joined([encoding(part) for part in parts], np.array(controls), vocabulary_size=80_000)
    chosen = np.array([draw % len(rows) for draw in draws], dtype=np.int64)
    assert encoded.gathered(chosen).tolist() == [token for row in chosen for token in rows[row]]
    assert encoded.counts.tolist() == [len(row) for row in rows]


@given(ours=TEXTS, changes=st.lists(st.booleans(), min_size=8, max_size=8))
def test_texts_that_another_encoding_has_otherwise_are_told(ours: list[list[int]], changes: list[bool]):
    theirs = [text[::-1] + [7] * (not text) if change else text for text, change in zip(ours, changes, strict=False)]
    one, other = (Encoded.joined([encoding(texts)], np.empty(0, np.int64), 80_000) for texts in (ours, theirs))
    expected = [text != twin for text, twin in zip(ours, theirs, strict=True)]
    assert one.differs(other, np.arange(len(ours))).tolist() == expected


@pytest.mark.parametrize(("vocabulary_size", "dtype"), [(32_000, np.uint16), (128_000, np.int32)])
def test_tokens_are_held_as_shards_store_them(vocabulary_size: int, dtype: type):
    encoded = Encoded.joined([encoding([[1, 2]])], np.array([3]), vocabulary_size)
    assert encoded.tokens.dtype == dtype


def test_a_token_that_does_not_fit_keeps_its_value_for_the_writer_to_refuse():
    encoded = Encoded.joined([encoding([[70_000]])], np.array([3]), vocabulary_size=32_000)
    assert encoded.gathered(np.array([0])).tolist() == [70_000]
