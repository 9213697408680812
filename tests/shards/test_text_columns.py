"""Columns as flat memory say what the values say one by one, wherever an array begins."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.shards.text_columns import hex_halves, is_null, numbers, text_bytes, text_lengths

VALUES = st.lists(st.none() | st.binary(max_size=5), max_size=40)
DIGITS = st.text("0123456789abcdef", min_size=32, max_size=32)


def texts(values: list[str]) -> pa.LargeBinaryArray:
    return pa.array([value.encode() for value in values], pa.large_binary())


@settings(deadline=None)
@given(values=VALUES, start=st.integers(0, 20))
def test_lengths_nulls_and_bytes_are_those_of_the_values(values, start):
    array, left = pa.array(values, pa.large_binary()).slice(start), values[start:]
    assert text_lengths(array).tolist() == [-1 if value is None else len(value) for value in left]
    assert is_null(array).tolist() == [value is None for value in left]
    assert bytes(text_bytes(array.drop_null())) == b"".join(value for value in left if value is not None)


def test_a_column_of_nulls_alone_has_no_lengths():
    assert text_lengths(pa.nulls(3).cast(pa.large_binary())).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint64(), pa.float64(), pa.bool_()])
@pytest.mark.parametrize("start", [0, 3, 20])
def test_numbers_are_read_from_where_an_array_begins(kind, start):
    values = [at % 2 for at in range(20)]
    found = numbers(pa.array(values).cast(kind).slice(start))
    assert found.tolist() == values[start:]


@given(values=st.lists(DIGITS, max_size=20))
def test_hexadecimal_digits_are_two_numbers(values):
    found = hex_halves(texts(values))
    assert found.dtype == np.uint64
    assert found.tolist() == [[int(value[:16], 16), int(value[16:], 16)] for value in values]


@given(
    values=st.lists(DIGITS, min_size=1, max_size=4),
    odd=st.characters(exclude_characters="0123456789abcdef"),
    data=st.data(),
)
def test_anything_but_32_lower_case_digits_is_none(values, odd, data):
    at = data.draw(st.integers(0, 31))
    broken = data.draw(st.sampled_from(values))
    encoded = odd.encode("utf-8", "surrogatepass")
    wrong = broken[:at].encode() + encoded + broken[at + len(encoded) :].encode()
    assert hex_halves(pa.array([*(value.encode() for value in values), wrong], pa.large_binary())) is None
    assert hex_halves(texts([*values, broken[:-1], f"{broken}0"])) is None
    assert hex_halves(pa.array([broken.encode(), None], pa.large_binary())) is None
