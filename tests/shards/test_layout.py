"""The layout says what a mode is and how wide a token is."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.shards.layout import (
    LARGEST_MODE,
    index_path,
    is_trained,
    records_path,
    role_codes,
    segment_modes,
    starts_example,
    token_dtype,
    tokens_path,
)


@pytest.mark.parametrize(
    ("vocabulary_size", "name"), [(2, "uint16"), (65_499, "uint16"), (65_500, "int32"), (151_936, "int32")]
)
def test_a_token_is_as_wide_as_megatron_says(indexed_dataset, vocabulary_size, name):
    assert token_dtype(vocabulary_size).name == name
    assert token_dtype(vocabulary_size) == indexed_dataset.DType.optimal_dtype(vocabulary_size)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1))
def test_a_mode_gives_back_what_it_was_made_of(parts):
    trained, starts, roles = (np.array(column) for column in zip(*parts, strict=True))
    modes = segment_modes(trained=trained, starts=starts, roles=roles)
    assert modes.dtype == np.int8
    assert modes.max() <= LARGEST_MODE
    assert (is_trained(modes) == trained).all()
    assert (starts_example(modes) == starts).all()
    assert (role_codes(modes) == roles).all()


def test_a_prefix_with_dots_keeps_them():
    prefix = Path("orca-1.5") / "00000.v2"
    assert tokens_path(prefix) == Path("orca-1.5/00000.v2.bin")
    assert index_path(prefix) == Path("orca-1.5/00000.v2.idx")
    assert records_path(prefix) == Path("orca-1.5/00000.v2.records.parquet")
