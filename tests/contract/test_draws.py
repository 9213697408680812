"""Identity and randomness by content."""

import hashlib

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.draws import canonical, digests, draw_below, draw_keys, id_text, splitmix64, text_digests

GOLDEN = 0x9E3779B97F4A7C15
IDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40)


def test_splitmix64_gives_the_published_sequence_of_seed_0():
    states = np.array([0, GOLDEN, 2 * GOLDEN % 2**64], dtype=np.uint64)
    assert [hex(value) for value in splitmix64(states).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@given(ids=IDS, seed=st.integers(-5, 2**70))
def test_a_draw_does_not_depend_on_the_order_of_arrival(ids: list[int], seed: int):
    column = np.array(ids, dtype=np.uint64)
    keys = draw_keys(id_hi=column, id_lo=column, seed=seed, purpose="mixture")
    turned = draw_keys(id_hi=column[::-1].copy(), id_lo=column[::-1].copy(), seed=seed, purpose="mixture")
    assert keys.tolist() == turned.tolist()[::-1]


def test_draws_of_two_purposes_are_independent():
    ids = np.arange(10_000, dtype=np.uint64)
    one, two = (draw_keys(id_hi=ids, id_lo=ids, seed=1, purpose=purpose) for purpose in ("mixture", "rows"))
    both_high = ((one >> np.uint64(63)) & (two >> np.uint64(63))).sum()
    assert abs(int(both_high) - 2500) < 200


@given(bounds=st.lists(st.integers(1, 2**31), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_a_drawn_integer_lies_below_its_bound(bounds: list[int], seed: int):
    keys = splitmix64(np.arange(len(bounds), dtype=np.uint64) + np.uint64(seed))
    drawn = draw_below(keys=keys, bounds=np.array(bounds, dtype=np.int64))
    assert all(0 <= value < bound for value, bound in zip(drawn.tolist(), bounds, strict=True))


def test_digests_are_blake2b_of_128_bits():
    high, low = digests([b"one", b""])
    assert id_text(int(high[0]), int(low[0])) == hashlib.blake2b(b"one", digest_size=16).hexdigest()
    assert text_digests(pl.Series(["one", None]))[1].tolist() == low.tolist()


@given(
    one=st.tuples(st.none() | st.text(max_size=4), st.none() | st.text(max_size=4)),
    two=st.tuples(st.none() | st.text(max_size=4), st.none() | st.text(max_size=4)),
)
def test_rows_that_differ_have_different_canonical_texts(one, two):
    frame = pl.DataFrame([one, two], schema={"a": pl.String, "b": pl.String}, orient="row")
    texts = frame.select(text=canonical(pl.col("a"), pl.col("b")))["text"].to_list()
    assert (texts[0] == texts[1]) == (one == two)
