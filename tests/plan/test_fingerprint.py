"""One canonical form for everything that is hashed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.plan.fingerprint import canonical_json, digest_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_the_order_of_keys_does_not_matter(value):
    turned = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert digest_of(turned) == digest_of(value)


@given(one=VALUES, two=VALUES)
def test_values_that_differ_have_different_digests(one, two):
    assert (digest_of(one) == digest_of(two)) == (canonical_json(one) == canonical_json(two))


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, {1: "a"}, object()])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(TypeError, match=r"no canonical form|is no text"):
        digest_of({"key": [value]})
