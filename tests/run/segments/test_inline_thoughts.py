"""Answers that begin with a mark are found as a regular expression finds them."""

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.segments.inline_thoughts import _begin_with

PIECES = st.sampled_from(
    ["<think>", "<", "think>", " ", "\n", "\t", "\r", "\f", "\v", "\u00a0", "", "x", "</think>", "[T]"]
)
TEXTS = st.lists(st.none() | st.lists(PIECES, max_size=4).map("".join), max_size=8)


@given(TEXTS, st.integers(0, 3), st.sampled_from(["<think>", "[T]"]))
def test_marks_at_the_start_are_found_behind_blanks_alone(texts: list[str | None], skipped: int, mark: str):
    column = pa.array(texts, type=pa.large_string())[skipped:]
    expected = [bool(re.match(rf"[\t\n\f\r ]*{re.escape(mark)}", text or "")) for text in texts[skipped:]]
    assert _begin_with(column, mark).tolist() == expected
